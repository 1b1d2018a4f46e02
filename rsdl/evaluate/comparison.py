"""Several runs on one page: which architecture is best on which data set, and at what cost."""

from collections import Counter
from collections.abc import Sequence

from rsdl.evaluate import units
from rsdl.evaluate.costs import cost_plots, curve_plots
from rsdl.evaluate.leaderboard import board_of, column_of
from rsdl.evaluate.page import render_page
from rsdl.evaluate.standings import Entry, Standing, standing_of

__all__ = ["Entry", "column_of", "render_comparison", "standing_of"]

TOTALS = (
    ("Parameters", "parameters", units.compact),
    ("Epochs", "epochs_completed", units.count),
    ("Optimizer steps", "optimizer_steps", units.compact),
    ("Images read", "samples_read", units.compact),
    ("Imagery read", "bytes_decoded", units.size),
    ("Device time", "device_s", units.hours),
    ("Preemptions", "preemptions", units.count),
)


def render_comparison(entries: Sequence[Entry]) -> str:
    """Return one self-contained HTML page that compares runs; it asks no network for anything."""
    standings = [standing_of(entry) for entry in entries]
    board = board_of(standings)
    return render_page(
        "comparison.html.jinja",
        standings=standings,
        statuses=Counter(s.status for s in standings).most_common(),
        board=board,
        totals=_totals(standings),
        costs=cost_plots(standings, board),
        curves=curve_plots(standings, board),
    )


def _totals(standings: Sequence[Standing]) -> list[tuple[str, str]]:
    totals = [("Runs", f"{len(standings):,}")]
    for label, key, word in TOTALS:
        known = [units.number(s.entry.run.get(key)) for s in standings]
        present = [value for value in known if value is not None]
        totals.append((label, word(sum(present)) if present else units.DASH))
    return totals
