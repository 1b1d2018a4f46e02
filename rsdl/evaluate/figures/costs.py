"""Figures of several runs: the primary metric by cost, and on the validation split in training."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from statistics import fmean

from rsdl.evaluate.compared_run import ComparedRun
from rsdl.evaluate.energy import uses_of
from rsdl.evaluate.figures.axes import (
    BOTTOM,
    TOP,
    X_SPAN,
    Plot,
    Point,
    log_axis,
    place_labels,
    share_axis,
)
from rsdl.evaluate.figures.curves import curve, line_plot
from rsdl.evaluate.formatting import percent
from rsdl.evaluate.leaderboard import Leaderboard, Result, names_of, results_of
from rsdl.records.run_record import RunRecord

Cost = tuple[str, str, float, Callable[[RunRecord], float]]
DEVICE_HOURS: Cost = ("device hours", "Device hours", 3600.0, lambda run: run.device_s)
PARAMETERS: Cost = ("parameters", "Parameters (millions)", 1e6, lambda run: run.parameters)


def cost_plots(rows: Sequence[ComparedRun], board: Leaderboard) -> list[Plot]:
    """Return the primary metric by device hours and by parameters, for each data set.

    Hours of different types of device are not comparable, so each type has a plot of its own.
    """
    plots = []
    results = results_of(rows)
    names = names_of(results)
    styles = list(dict.fromkeys([*board.architectures, *names]))
    for cost in (DEVICE_HOURS, PARAMETERS):
        name, label, scale, cost_of = cost
        for column in board.columns:
            by_device = defaultdict(list)
            for known_as, result in zip(names, results, strict=True):
                price = fmean(cost_of(entry.run) for entry in result.runs) / scale
                same_split = result.head.basis == (column.basis or result.head.basis)
                if (
                    result.run.dataset == column.dataset
                    and same_split
                    and result.run.facts.label == column.label
                    and result.score is not None
                    and price > 0
                ):
                    device = "" if cost is PARAMETERS else _devices_of(result)
                    by_device[device].append((known_as, result, price))
            for device, priced in sorted(by_device.items()):
                where = f" of {device}" if len(by_device) > 1 else ""
                title = f"{column.dataset}: {column.label} by {name}{where}"
                plots.append(_scatter(title, label, priced, styles))
    return plots


def _devices_of(result: Result) -> str:
    """Return the types of device that the runs of a result used."""
    uses = (use for entry in result.runs for use in uses_of(entry.run))
    return " and ".join(sorted({use.device for use in uses}))


def _scatter(
    title: str,
    x_label: str,
    priced: Sequence[tuple[str, Result, float]],
    styles: Sequence[str],
) -> Plot:
    """Return the plot of results with their names and costs; ``styles`` are all names."""
    costs = [cost for *_, cost in priced]
    scores = [r.score or 0.0 for _, r, _ in priced]
    x = log_axis(min(costs), max(costs), X_SPAN)
    y = share_axis(min(scores), max(scores), (BOTTOM, TOP + 8), word=_tick_percent)
    points = place_labels(
        [
            Point(
                x=x.place(cost),
                y=y.place(r.score or 0.0),
                name=name,
                style=styles.index(name),
                value=f"{_score(r)} at {cost:.3g} {x_label.lower()}",
                hollow=r.run.status != "completed",
            )
            for name, r, cost in priced
        ]
    )
    summary = f"{title}: " + "; ".join(f"{p.name} {p.value}" for p in points)
    final = [(cost, r.score or 0.0) for _, r, cost in priced if r.run.status == "completed"]
    steps = [(x.place(cost), y.place(score)) for cost, score in find_front(final)]
    return Plot(title, summary, x, y, x_label, points=points, front=_stairs(steps))


def _score(result: Result) -> str:
    return f"{percent(result.score, 2)}{f' ({result.spread})' if result.spread else ''}"


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


def curve_plots(rows: Sequence[ComparedRun], board: Leaderboard) -> list[Plot]:
    """Return curves of the primary metric on the validation split, one plot for each data set."""
    plots = []
    results = results_of(rows)
    names = names_of(results)
    styles = list(dict.fromkeys([*board.architectures, *names]))
    known_as = {
        id(entry): name
        for name, result in zip(names, results, strict=True)
        for entry in result.runs
    }
    for column in board.columns:
        curves = [
            (entry, label, pairs)
            for entry in rows
            if entry.run.dataset == column.dataset and entry.run.facts.label == column.label
            for label, pairs in [curve(entry.history, f"val_{entry.run.facts.primary_metric}")]
            if pairs
        ]
        # Draw only runs with the most common unit of the x axis: steps and epochs do not mix.
        label = Counter(label for _, label, _ in curves).most_common(1)
        drawn = [(entry, pairs) for entry, unit, pairs in curves if unit == label[0][0]]
        if drawn:
            lines = [styles.index(known_as[id(entry)]) for entry, _ in drawn]
            # Cut the first epochs, whose large range would hide the differences between runs.
            floor = min(pairs[-1][1] for _, pairs in drawn) - 0.2
            # Several seeds of one architecture are labelled by the names of their runs.
            times = Counter(entry.run.architecture for entry, _ in drawn)
            named = [
                (
                    known_as[id(entry)] if times[entry.run.architecture] == 1 else entry.run.name,
                    [p for p in pairs if p[1] >= floor],
                )
                for entry, pairs in drawn
            ]
            plots.append(
                line_plot(column.dataset, named, label[0][0], word=_tick_percent, styles=lines)
            )
    return plots


def _tick_percent(value: float) -> str:
    return f"{100 * value:.4g}%"
