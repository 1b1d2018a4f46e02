"""Several runs on one page: which architecture is best on which data set, and at what cost.

Only like is compared with like: a run is marked as best only among completed runs that were
measured on the same split, so a validation score never wins over a test score.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rsdl.evaluate import facts, units
from rsdl.evaluate.curves import History, line_plot, time_axis
from rsdl.evaluate.page import render_page
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
from rsdl.evaluate.result import Evaluation

TOTALS = (
    ("Parameters", "parameters", units.compact),
    ("Epochs", "epochs_completed", units.count),
    ("Optimizer steps", "optimizer_steps", units.compact),
    ("Images read", "samples_read", units.compact),
    ("Imagery read", "bytes_decoded", units.size),
    ("Device time", "device_s", units.hours),
    ("Preemptions", "preemptions", units.count),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One run to compare: ``run.json``, ``report.json`` if there is one, and ``metrics.csv``."""

    run: Mapping[str, Any]
    evaluation: Evaluation | None = None
    history: History = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """One run as a row of the page."""

    name: str
    architecture: str
    dataset: str
    status: str
    epochs: str
    device: str
    head: facts.Headline
    entry: Entry

    @property
    def oa(self) -> float | None:
        """Overall accuracy in ``[0, 1]``, where there is one."""
        return units.number(self.head.metrics.get("oa"))


@dataclass(frozen=True, slots=True)
class Column:
    """One data set of the table: the split that it is compared on, and its best accuracy there."""

    dataset: str
    basis: str | None
    best: float | None


def render_comparison(entries: Sequence[Entry]) -> str:
    """Return one self-contained HTML page that compares runs; it asks no network for anything."""
    standings = [standing_of(entry) for entry in entries]
    architectures = list(dict.fromkeys(s.architecture for s in standings))
    columns = [column_of(standings, d) for d in dict.fromkeys(s.dataset for s in standings)]
    cells = {
        (architecture, column.dataset): _cell(standings, architecture, column)
        for architecture in architectures
        for column in columns
    }
    return render_page(
        "comparison.html.jinja",
        standings=standings,
        statuses=Counter(s.status for s in standings).most_common(),
        architectures=architectures,
        columns=columns,
        cells=cells,
        totals=_totals(standings),
        costs=_cost_plots(standings, columns, architectures),
        curves=_curve_plots(standings, columns, architectures),
    )


def standing_of(entry: Entry) -> Standing:
    """Return what the page says about one run."""
    run = entry.run
    return Standing(
        name=units.text(run.get("name")),
        architecture=units.text(run.get("architecture")),
        dataset=units.text(run.get("dataset")),
        status=facts.status_of(run),
        epochs=facts.epochs(run),
        device=facts.device(run),
        head=facts.headline(run, entry.evaluation),
        entry=entry,
    )


def column_of(standings: Sequence[Standing], dataset: str) -> Column:
    """Return the split that most completed runs were measured on (test wins ties), and its best."""
    rivals = [s for s in standings if s.dataset == dataset and _final(s)]
    votes = Counter(s.head.basis for s in rivals)
    basis = max(votes, key=lambda name: (votes[name], name == "test"), default=None)
    return Column(
        dataset, basis, max((s.oa or 0.0 for s in rivals if s.head.basis == basis), default=None)
    )


def is_best(standing: Standing, column: Column) -> bool:
    """Return whether a run has the best accuracy of its column, alone or with others."""
    return (
        _final(standing)
        and standing.dataset == column.dataset
        and standing.head.basis == column.basis
        and standing.oa == column.best
    )


def _final(standing: Standing) -> bool:
    return standing.status == "completed" and standing.oa is not None


def _cell(
    standings: Sequence[Standing], architecture: str, column: Column
) -> list[tuple[Standing, bool]]:
    mine = [s for s in standings if (s.architecture, s.dataset) == (architecture, column.dataset)]
    mine.sort(key=lambda s: (not is_best(s, column), not _final(s), -(s.oa or 0.0)))
    return [(s, is_best(s, column)) for s in mine]


def _totals(standings: Sequence[Standing]) -> list[tuple[str, str]]:
    totals = [("Runs", f"{len(standings):,}")]
    for label, key, word in TOTALS:
        known = [units.number(s.entry.run.get(key)) for s in standings]
        present = [value for value in known if value is not None]
        totals.append((label, word(sum(present)) if present else units.DASH))
    return totals


def _cost_plots(
    standings: Sequence[Standing], columns: Sequence[Column], architectures: Sequence[str]
) -> list[Plot]:
    plots = []
    for name, label, key, scale in (
        ("device hours", "Device hours", "device_s", 3600.0),
        ("parameters", "Parameters (millions)", "parameters", 1e6),
    ):
        for column in columns:
            priced = [
                (s, cost / scale)
                for s in standings
                if s.dataset == column.dataset
                and s.oa is not None
                and s.head.basis == (column.basis or s.head.basis)
                and (cost := units.number(s.entry.run.get(key))) is not None
                and cost > 0
            ]
            if priced:
                title = f"{column.dataset}: accuracy by {name}"
                plots.append(_scatter(title, label, priced, architectures))
    return plots


def _scatter(
    title: str,
    x_label: str,
    priced: Sequence[tuple[Standing, float]],
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
                value=f"{units.percent(s.oa, 2)} at {cost:.3g} {x_label.lower()}",
                hollow=s.status != "completed",
            )
            for s, cost in priced
        ]
    )
    summary = f"{title}: " + "; ".join(f"{p.name} {p.value}" for p in points)
    return Plot(title, summary, x, y, x_label, points=points)


def _curve_plots(
    standings: Sequence[Standing], columns: Sequence[Column], architectures: Sequence[str]
) -> list[Plot]:
    plots = []
    for column in columns:
        curves = [
            (s, label, pairs)
            for s in standings
            if s.dataset == column.dataset
            for label, pairs in [_validation(s.entry.history)]
            if pairs
        ]
        # Runs are drawn together only if they are counted alike: steps and epochs do not mix.
        label = Counter(label for _, label, _ in curves).most_common(1)
        drawn = [(s, pairs) for s, unit, pairs in curves if unit == label[0][0]]
        if drawn:
            styles = [architectures.index(s.architecture) for s, _ in drawn]
            # The first epochs of every run span the whole range and would hide how the runs differ.
            floor = min(pairs[-1][1] for _, pairs in drawn) - 0.2
            named = [(s.architecture, [p for p in pairs if p[1] >= floor]) for s, pairs in drawn]
            plots.append(
                line_plot(column.dataset, named, label[0][0], word=_tick_percent, styles=styles)
            )
    return plots


def _validation(history: History) -> tuple[str, list[tuple[float, float]]]:
    label, positions = time_axis(history)
    values = (units.number(row.get("val_oa")) for row in history)
    known = zip(positions, values, strict=True)
    return label, thin([(x, y) for x, y in known if x is not None and y is not None])


def _tick_percent(value: float) -> str:
    return f"{100 * value:.4g}%"
