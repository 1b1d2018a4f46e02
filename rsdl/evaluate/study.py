"""The report of a whole study: totals, leaderboard, costs, and tables for a paper.

All numbers come from run records. A run that is not completed is shown and its costs count, but it
does not count as a trained model and is never marked as best.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rsdl.config.task import metric_label
from rsdl.evaluate.compared_run import ComparedRun
from rsdl.evaluate.figures.costs import cost_plots, curve_plots
from rsdl.evaluate.html import render_page
from rsdl.evaluate.leaderboard import Leaderboard, Summary, leaderboard_of, summaries_of
from rsdl.evaluate.report import TASK_REPORTS, run_summary
from rsdl.evaluate.significance import Comparison, comparisons_of
from rsdl.evaluate.tables import comparison_table, csv_table, latex_table
from rsdl.evaluate.totals import Machine, Number, machines_of, numbers_of

# Tiles at the top, beside the large first one; the rest is below them.
QUALITY = 7


@dataclass(frozen=True, slots=True)
class Study:
    """The content of the page and the tables."""

    rows: Sequence[ComparedRun]
    board: Leaderboard
    numbers: dict[str, Number]
    machines: Sequence[Machine]
    summaries: dict[str, Summary]
    comparisons: Sequence[Comparison]

    @property
    def label(self) -> str:
        """Label of the primary metric, as ``OA``."""
        return metric_label(entry.run.facts for entry in self.rows)

    @property
    def title(self) -> str:
        """Name of the primary metric for headings; those of several tasks with slashes."""
        title = " / ".join(dict.fromkeys(entry.run.facts.title for entry in self.rows))
        return title[:1].upper() + title[1:]

    @property
    def csv(self) -> str:
        """CSV with one row for each run."""
        names = [name for task in self._tasks for name in TASK_REPORTS[task].metrics]
        return csv_table(self.rows, list(dict.fromkeys(names)))

    @property
    def latex(self) -> str:
        """LaTeX tables of the primary metric and of totals."""
        hours = self.numbers["device"].label
        tables = latex_table(
            self.board, self.summaries, self.numbers, metric=self.title, hours=hours
        )
        return tables + comparison_table(self.comparisons, metric=self.title)

    @property
    def columns(self) -> list[run_summary.Column]:
        """Metrics of the table of runs beside the primary one."""
        found = [column for task in self._tasks for column in TASK_REPORTS[task].columns]
        primary = {entry.run.facts.primary_metric for entry in self.rows}
        return [column for column in dict.fromkeys(found) if primary != {column[0]}]

    @property
    def _tasks(self) -> list[str]:
        return list(dict.fromkeys(entry.run.task for entry in self.rows))


def study_of(entries: Sequence[ComparedRun]) -> Study:
    """Return the study of runs, sorted by architecture and data set."""
    rows = sorted(entries, key=lambda e: (e.run.architecture, e.run.dataset, e.run.name))
    runs = [entry.run for entry in rows]
    board = leaderboard_of(rows)
    return Study(
        rows, board, numbers_of(runs), machines_of(runs), summaries_of(rows, board),
        comparisons_of(rows),
    )  # fmt: skip


def render_study(study: Study) -> str:
    """Return one self-contained HTML page; it makes no requests."""
    numbers = list(study.numbers.values())
    return render_page(
        "study.html.jinja",
        study=study,
        board=study.board,
        rows=study.rows,
        statuses=Counter(entry.run.status for entry in study.rows).most_common(),
        quality=numbers[:QUALITY],
        effort=numbers[QUALITY:],
        costs=cost_plots(study.rows, study.board),
        curves=curve_plots(study.rows, study.board),
        epochs=run_summary.epochs,
        device=run_summary.device,
    )
