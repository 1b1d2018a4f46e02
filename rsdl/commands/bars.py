"""Progress bars on stderr, shown only on a terminal."""

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
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

# The bar is redrawn ten times a second; an update for each sample would cost a tenth of packing.
BETWEEN_MOVES_S = 0.1


@contextmanager
def sample_bar(what: str) -> Iterator["SampleProgress"]:
    """Show a progress bar over samples, on stderr."""
    with _open_counter(MofNCompleteColumn()) as bar:
        yield SampleProgress(bar, what)


@contextmanager
def download_bar(what: str) -> Iterator["SampleProgress"]:
    """Show a progress bar over bytes, on stderr, once a download begins."""
    with _open_counter(DownloadColumn()) as bar:
        yield SampleProgress(bar, what)


@contextmanager
def pixel_bar(what: str) -> Iterator["SampleProgress"]:
    """Show a progress bar over pixels with their rate, on stderr."""
    with _open_counter(PixelRate()) as bar:
        yield SampleProgress(bar, what)


class PixelRate(ProgressColumn):
    """Millions of pixels a second."""

    def render(self, task: Task) -> Text:
        """Return the rate, empty while it is not known."""
        return Text("" if task.speed is None else f"{task.speed / 1e6:.2f} Mpx/s")


def _open_counter(count: ProgressColumn) -> Progress:
    what = TextColumn("{task.description}")
    return open_bar(what, BarColumn(), count, TimeRemainingColumn())


def open_bar(*columns: ProgressColumn) -> Progress:
    """Return a progress bar on stderr, disabled unless stderr is a terminal."""
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


class SampleProgress:
    """Callback of (done, total) that updates a progress bar."""

    def __init__(self, bar: Progress, what: str) -> None:
        self._bar = bar
        self._task = bar.add_task(what, total=None, visible=False)
        self._next = 0.0

    def __call__(self, done: int, total: int | None) -> None:
        """Update the bar, at most every ``BETWEEN_MOVES_S``."""
        now = time.monotonic()
        if now < self._next and done != total:
            return
        self._next = now + BETWEEN_MOVES_S
        self._bar.update(self._task, completed=done, total=total, visible=True)
