"""Progress bars, on stderr, where somebody looks."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

# The bar is drawn ten times a second; telling it of each sample is a tenth of what packing costs.
BETWEEN_MOVES_S = 0.1


@contextmanager
def sample_bar(what: str) -> Iterator["SampleProgress"]:
    """Show a bar over samples, on stderr."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with open_bar(*columns) as bar:
        yield SampleProgress(bar, what)


@contextmanager
def download_bar(what: str) -> Iterator["SampleProgress"]:
    """Show a bar over bytes, on stderr; only once something is downloaded."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    with open_bar(*columns) as bar:
        yield SampleProgress(bar, what)


def open_bar(*columns: ProgressColumn) -> Progress:
    """Return a bar for the terminal; where nobody looks, one that stays silent."""
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


class SampleProgress:
    """Called with (done, total); shows both."""

    def __init__(self, bar: Progress, what: str) -> None:
        self._bar = bar
        self._task = bar.add_task(what, total=None, visible=False)
        self._next = 0.0

    def __call__(self, done: int, total: int | None) -> None:
        """Move the bar, as often as an eye can follow."""
        now = time.monotonic()
        if now < self._next and done != total:
            return
        self._next = now + BETWEEN_MOVES_S
        self._bar.update(self._task, completed=done, total=total, visible=True)
