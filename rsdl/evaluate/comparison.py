"""The comparison of several runs on one page: the best architecture by data set, and its cost."""

from collections import Counter
from collections.abc import Sequence

from rsdl.evaluate import formatting as formatting
from rsdl.evaluate.costs import cost_plots, curve_plots
from rsdl.evaluate.html import render_page
from rsdl.evaluate.leaderboard import column_of, leaderboard_of
from rsdl.evaluate.study_rows import ComparedRun, StudyRow, row_of

__all__ = ["ComparedRun", "column_of", "render_comparison", "row_of"]

TOTALS = (
    ("Parameters", "parameters", formatting.compact),
    ("Epochs", "epochs_completed", formatting.count),
    ("Optimizer steps", "optimizer_steps", formatting.compact),
    ("Images read", "samples_read", formatting.compact),
    ("Imagery read", "bytes_decoded", formatting.size),
    ("Device time", "device_s", formatting.hours),
    ("Preemptions", "preemptions", formatting.count),
)


def render_comparison(entries: Sequence[ComparedRun]) -> str:
    """Return one self-contained HTML page that compares runs; it makes no requests."""
    rows = [row_of(entry) for entry in entries]
    board = leaderboard_of(rows)
    return render_page(
        "comparison.html.jinja",
        rows=rows,
        statuses=Counter(s.status for s in rows).most_common(),
        board=board,
        totals=_totals(rows),
        costs=cost_plots(rows, board),
        curves=curve_plots(rows, board),
    )


def _totals(rows: Sequence[StudyRow]) -> list[tuple[str, str]]:
    totals = [("Runs", f"{len(rows):,}")]
    for label, key, word in TOTALS:
        known = [formatting.number(s.entry.run.get(key)) for s in rows]
        present = [value for value in known if value is not None]
        totals.append((label, word(sum(present)) if present else formatting.DASH))
    return totals
