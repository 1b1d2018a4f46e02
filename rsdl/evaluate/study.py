"""The report of a whole study: totals, leaderboard, costs, and tables for a paper.

All numbers come from run records. A run that is not completed is shown and its costs count, but it
does not count as a trained model and is never marked as best.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum

from rsdl.evaluate import formatting as formatting
from rsdl.evaluate.costs import cost_plots, curve_plots
from rsdl.evaluate.html import render_page
from rsdl.evaluate.leaderboard import Leaderboard, leaderboard_of
from rsdl.evaluate.study_rows import ComparedRun, StudyRow, row_of
from rsdl.evaluate.tables import csv_table, latex_table
from rsdl.evaluate.totals import Machine, Number, machines_of, numbers_of

# Tiles at the top, beside the large first one; the rest is below them.
QUALITY = 7


@dataclass(frozen=True, slots=True)
class Summary:
    """One architecture over all data sets.

    Attributes:
        mean: Mean accuracy; ``None`` unless every data set has one.
        best: Whether no other mean is higher.
        parameters: Parameters of its largest network; heads differ with the number of classes.
        device_s: Device seconds of all its runs.
    """

    mean: float | None
    best: bool
    parameters: float | None
    device_s: float | None


@dataclass(frozen=True, slots=True)
class Study:
    """The content of the page and the tables."""

    rows: Sequence[StudyRow]
    board: Leaderboard
    numbers: dict[str, Number]
    machines: Sequence[Machine]
    summaries: dict[str, Summary]

    @property
    def csv(self) -> str:
        """CSV with one row for each run."""
        return csv_table(self.rows)

    @property
    def latex(self) -> str:
        """LaTeX tables of accuracies and of totals."""
        hours = self.numbers["device"].label
        return latex_table(self.board, self.summaries, self.numbers, hours=hours)


def study_of(entries: Sequence[ComparedRun]) -> Study:
    """Return the study of runs, sorted by architecture and data set."""
    rows = sorted(map(row_of, entries), key=lambda s: (s.architecture, s.dataset, s.name))
    board = leaderboard_of(rows)
    return Study(
        rows,
        board,
        numbers_of(rows),
        machines_of(rows),
        {name: _summary(rows, board, name) for name in board.architectures},
    )


def render_study(study: Study) -> str:
    """Return one self-contained HTML page; it makes no requests."""
    numbers = list(study.numbers.values())
    return render_page(
        "study.html.jinja",
        study=study,
        board=study.board,
        rows=study.rows,
        statuses=Counter(s.status for s in study.rows).most_common(),
        quality=numbers[:QUALITY],
        effort=numbers[QUALITY:],
        costs=cost_plots(study.rows, study.board),
        curves=curve_plots(study.rows, study.board),
    )


def mean_accuracy(board: Leaderboard, architecture: str) -> float | None:
    """Return the mean over all data sets; ``None`` if one has no result or several recipes."""
    scores = []
    for column in board.columns:
        runs = board.cells[(architecture, column.dataset)]
        fit = [r.oa for r, _ in runs if r.final and r.head.basis == column.basis]
        scores += fit if len(fit) == 1 else []
    known = [score for score in scores if score is not None]
    return fsum(known) / len(known) if known and len(known) == len(board.columns) else None


def _summary(rows: Sequence[StudyRow], board: Leaderboard, architecture: str) -> Summary:
    mine = [s.entry.run for s in rows if s.architecture == architecture]
    sizes = [v for run in mine if (v := formatting.number(run.get("parameters"))) is not None]
    times = [v for run in mine if (v := formatting.number(run.get("device_s"))) is not None]
    mean = mean_accuracy(board, architecture)
    means = [mean_accuracy(board, name) for name in board.architectures]
    best = max((m for m in means if m is not None), default=None)
    return Summary(
        mean=mean,
        best=mean is not None and mean == best,
        parameters=max(sizes, default=None),
        device_s=fsum(times) if times else None,
    )
