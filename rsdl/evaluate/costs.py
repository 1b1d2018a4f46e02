"""Figures of several runs: accuracy by cost, and validation accuracy during training."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from rsdl.evaluate import formatting as formatting
from rsdl.evaluate.curves import History, line_plot, time_axis
from rsdl.evaluate.energy import uses_of
from rsdl.evaluate.leaderboard import Leaderboard
from rsdl.evaluate.plot import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Plot,
    Point,
    log_axis,
    place_labels,
    share_axis,
    thin,
)
from rsdl.evaluate.seeds import Result, results_of
from rsdl.evaluate.study_rows import StudyRow


def cost_plots(rows: Sequence[StudyRow], board: Leaderboard) -> list[Plot]:
    """Return accuracy by device hours and by parameters, for each data set.

    Hours of different types of device are not comparable, so each type has a plot of its own.
    """
    plots = []
    results = results_of(rows)
    for name, label, key, scale in (
        ("device hours", "Device hours", "device_s", 3600.0),
        ("parameters", "Parameters (millions)", "parameters", 1e6),
    ):
        for column in board.columns:
            priced = [
                (s, cost / scale)
                for s in results
                if s.dataset == column.dataset
                and s.oa is not None
                and s.head.basis == (column.basis or s.head.basis)
                and (cost := s.cost(key)) is not None
                and cost > 0
            ]
            title = f"{column.dataset}: accuracy by {name}"
            if key == "parameters":
                by_device = {"": priced}
            else:
                by_device = defaultdict(list)
                for result, cost in priced:
                    by_device[_devices_of(result)].append((result, cost))
            for device, same in sorted(by_device.items()):
                if same:
                    where = f" of {device}" if len(by_device) > 1 else ""
                    plots.append(_scatter(title + where, label, same, board.architectures))
    return plots


def _devices_of(result: Result) -> str:
    """Return the types of device that the runs of a result used."""
    uses = (use for row in result.runs for use in uses_of(row.entry.run))
    return " and ".join(sorted({use.device for use in uses}))


def _scatter(
    title: str,
    x_label: str,
    priced: Sequence[tuple[Result, float]],
    architectures: Sequence[str],
) -> Plot:
    costs = [cost for _, cost in priced]
    scores = [s.oa or 0.0 for s, _ in priced]
    x = log_axis(min(costs), max(costs), (LEFT, RIGHT))
    y = share_axis(min(scores), max(scores), (BOTTOM, TOP + 8), word=_tick_percent)
    points = place_labels(
        [
            Point(
                x=x.place(cost),
                y=y.place(s.oa or 0.0),
                name=s.architecture,
                style=architectures.index(s.architecture),
                value=f"{_score(s)} at {cost:.3g} {x_label.lower()}",
                hollow=s.status != "completed",
            )
            for s, cost in priced
        ]
    )
    summary = f"{title}: " + "; ".join(f"{p.name} {p.value}" for p in points)
    final = [(cost, s.oa or 0.0) for s, cost in priced if s.status == "completed"]
    steps = [(x.place(cost), y.place(score)) for cost, score in find_front(final)]
    return Plot(title, summary, x, y, x_label, points=points, front=_stairs(steps))


def _score(result: Result) -> str:
    return f"{formatting.percent(result.oa, 2)}{f' ({result.spread})' if result.spread else ''}"


def find_front(pairs: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the Pareto front of (cost, score) pairs, cheapest first."""
    front: list[tuple[float, float]] = []
    for cost, score in sorted(pairs, key=lambda pair: (pair[0], -pair[1])):
        if not front or score > front[-1][1]:
            front.append((cost, score))
    return front


def _stairs(steps: Sequence[tuple[float, float]]) -> str:
    """Return the SVG path of the best score at each cost; empty for fewer than two points."""
    if len(steps) < 2:
        return ""
    return f"M{steps[0][0]:g} {steps[0][1]:g}" + "".join(f"H{x:g}V{y:g}" for x, y in steps[1:])


def curve_plots(rows: Sequence[StudyRow], board: Leaderboard) -> list[Plot]:
    """Return curves of validation accuracy during training, one plot for each data set."""
    plots = []
    for column in board.columns:
        curves = [
            (s, label, pairs)
            for s in rows
            if s.dataset == column.dataset
            for label, pairs in [_validation(s.entry.history)]
            if pairs
        ]
        # Draw only runs with the most common unit of the x axis: steps and epochs do not mix.
        label = Counter(label for _, label, _ in curves).most_common(1)
        drawn = [(s, pairs) for s, unit, pairs in curves if unit == label[0][0]]
        if drawn:
            styles = [board.architectures.index(s.architecture) for s, _ in drawn]
            # Cut the first epochs, whose large range would hide the differences between runs.
            floor = min(pairs[-1][1] for _, pairs in drawn) - 0.2
            # Several seeds of one architecture are labelled by the names of their runs.
            times = Counter(s.architecture for s, _ in drawn)
            named = [
                (
                    s.architecture if times[s.architecture] == 1 else s.name,
                    [p for p in pairs if p[1] >= floor],
                )
                for s, pairs in drawn
            ]
            plots.append(
                line_plot(column.dataset, named, label[0][0], word=_tick_percent, styles=styles)
            )
    return plots


def _validation(history: History) -> tuple[str, list[tuple[float, float]]]:
    label, positions = time_axis(history)
    values = (formatting.number(row.get("val_oa")) for row in history)
    known = zip(positions, values, strict=True)
    return label, thin([(x, y) for x, y in known if x is not None and y is not None])


def _tick_percent(value: float) -> str:
    return f"{100 * value:.4g}%"
