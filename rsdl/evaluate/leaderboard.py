"""The leaderboard: results by architecture and data set, with the best of each data set marked.

A result is marked as best only among completed runs that were evaluated on the same split, so a
validation score never beats a test score. Several seeds count by their mean.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rsdl.evaluate.seeds import Result, results_of
from rsdl.evaluate.study_rows import StudyRow, is_final


@dataclass(frozen=True, slots=True)
class Column:
    """One data set of the table, with the split that runs are compared on and its best accuracy."""

    dataset: str
    basis: str | None
    best: float | None


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """Accuracy by architecture (rows) and data set (columns).

    Attributes:
        cells: Results by (architecture, data set), each with whether it is best; the best first.
    """

    architectures: tuple[str, ...]
    columns: tuple[Column, ...]
    cells: Mapping[tuple[str, str], Sequence[tuple[Result, bool]]]


def leaderboard_of(rows: Sequence[StudyRow]) -> Leaderboard:
    """Return the table of runs, rows and columns in order of appearance."""
    architectures = tuple(dict.fromkeys(s.architecture for s in rows))
    columns = tuple(column_of(rows, d) for d in dict.fromkeys(s.dataset for s in rows))
    results = results_of(rows)
    cells = {
        (architecture, column.dataset): _cell(results, architecture, column)
        for architecture in architectures
        for column in columns
    }
    return Leaderboard(architectures, columns, cells)


def column_of(rows: Sequence[StudyRow], dataset: str) -> Column:
    """Return the split of most completed runs (test wins ties) and the best accuracy on it."""
    rivals = [s for s in rows if s.dataset == dataset and is_final(s)]
    votes = Counter(s.head.basis for s in rivals)
    basis = max(votes, key=lambda name: (votes[name], name == "test"), default=None)
    fit = [r.oa or 0.0 for r in results_of(rivals) if r.head.basis == basis]
    return Column(dataset, basis, max(fit, default=None))


def is_best(result: Result, column: Column) -> bool:
    """Return whether a result has the best accuracy of its column; ties count as best."""
    return (
        result.final
        and result.dataset == column.dataset
        and result.head.basis == column.basis
        and result.oa == column.best
    )


def _cell(
    results: Sequence[Result], architecture: str, column: Column
) -> list[tuple[Result, bool]]:
    mine = [r for r in results if (r.architecture, r.dataset) == (architecture, column.dataset)]
    mine.sort(key=lambda r: (not is_best(r, column), not r.final, -(r.oa or 0.0)))
    return [(r, is_best(r, column)) for r in mine]
