"""Runs as rows and cells: how each stands, and which is the best on each data set.

Only like is compared with like: a run is marked as best only among completed runs that were
measured on the same split, so a validation score never wins over a test score.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rsdl.evaluate import facts, units
from rsdl.evaluate.curves import History
from rsdl.evaluate.result import Evaluation


@dataclass(frozen=True, slots=True)
class Entry:
    """One run to compare.

    Attributes:
        run: ``run.json``.
        evaluation: ``report.json``, if there is one.
        history: ``metrics.csv``.
        tta: ``report-tta.json``, if there is one; it competes with nothing.
        recipe: Names everything that decides the result but the seed; runs of one recipe differ by
            chance alone. Empty where it is not known.
    """

    run: Mapping[str, Any]
    evaluation: Evaluation | None = None
    history: History = ()
    tta: Evaluation | None = None
    recipe: str = ""


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


@dataclass(frozen=True, slots=True)
class Board:
    """Accuracy by architecture (rows) and data set (columns).

    Attributes:
        cells: The runs of a row and column, each with whether it is best, the best first.
    """

    architectures: tuple[str, ...]
    columns: tuple[Column, ...]
    cells: Mapping[tuple[str, str], Sequence[tuple[Standing, bool]]]


def board_of(standings: Sequence[Standing]) -> Board:
    """Return the table of runs, rows and columns in order of appearance."""
    architectures = tuple(dict.fromkeys(s.architecture for s in standings))
    columns = tuple(column_of(standings, d) for d in dict.fromkeys(s.dataset for s in standings))
    cells = {
        (architecture, column.dataset): _cell(standings, architecture, column)
        for architecture in architectures
        for column in columns
    }
    return Board(architectures, columns, cells)


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
    rivals = [s for s in standings if s.dataset == dataset and is_final(s)]
    votes = Counter(s.head.basis for s in rivals)
    basis = max(votes, key=lambda name: (votes[name], name == "test"), default=None)
    return Column(
        dataset, basis, max((s.oa or 0.0 for s in rivals if s.head.basis == basis), default=None)
    )


def is_best(standing: Standing, column: Column) -> bool:
    """Return whether a run has the best accuracy of its column, alone or with others."""
    return (
        is_final(standing)
        and standing.dataset == column.dataset
        and standing.head.basis == column.basis
        and standing.oa == column.best
    )


def is_final(standing: Standing) -> bool:
    """Return whether a run is completed and measured."""
    return standing.status == "completed" and standing.oa is not None


def _cell(
    standings: Sequence[Standing], architecture: str, column: Column
) -> list[tuple[Standing, bool]]:
    mine = [s for s in standings if (s.architecture, s.dataset) == (architecture, column.dataset)]
    mine.sort(key=lambda s: (not is_best(s, column), not is_final(s), -(s.oa or 0.0)))
    return [(s, is_best(s, column)) for s in mine]
