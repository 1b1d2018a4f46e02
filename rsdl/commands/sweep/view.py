"""Terminal output of a local sweep: a line for each event, and a table of the running runs."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from rsdl.cluster.device_slots import DeviceSlot
from rsdl.cluster.queue import Outcome
from rsdl.commands.sweep.plan import PlannedRun
from rsdl.config.task import metric_label
from rsdl.core.errors import RsdlError
from rsdl.records.run_record import RunRecord

SECONDS_BETWEEN_LINES = 60.0
SECONDS_BETWEEN_LOOKS = 2.0
WORDS: Mapping[Outcome, str] = {
    "completed": "completed",
    "preempted": "preempted; goes on",
    "crashed": "crashed; is tried again",
    "failed": "failed",
    "wrong": "its input is wrong",
    "stopped": "stopped",
}


class SweepView:
    """Prints the progress of a sweep: plain lines and, on a terminal, a live table.

    Args:
        console: Console to print to.
        runs: Runs of the study.
    """

    def __init__(self, console: Console, runs: Sequence[PlannedRun]) -> None:
        self._console = console
        self._runs = {run.name: run for run in runs}
        self._num_done = sum(run.is_completed for run in runs)
        self._waited: set[str] = set()
        self._looked = self._told = time.monotonic()
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> "SweepView":
        """Show the live table, on a terminal."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the live table."""
        self._live.stop()

    def announce(self, slots: Sequence[DeviceSlot], *, retry: bool) -> None:
        """Print what the sweep will do."""
        todo = {name: run.todo(retry=retry) for name, run in self._runs.items()}
        given_up = [n for n, r in self._runs.items() if todo[n] == "leave" and not r.is_completed]
        counts = {
            "completed": self._num_done,
            "to resume": sum(what == "resume" for what in todo.values()),
            "to begin": sum(what == "begin" for what in todo.values()),
            "failed before": len(given_up),
        }
        facts = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        cores = f"{slots[0].cores} core{'' if slots[0].cores == 1 else 's'} each"
        self._say(f"{len(self._runs)} runs: {facts}")
        self._say(f"on {', '.join(slot.name for slot in slots)}; {cores}")
        for name, what in todo.items():
            run = self._runs[name]
            if what != "leave":
                self._say(f"  {what:<7} {name}{_progress(run.record)}")
            elif not run.is_completed:
                reason = run.record.reason if run.record is not None else ""
                self._say(f"  left    {name}: {reason}; --retry tries it again")

    def note_begin(self, name: str, slot: DeviceSlot) -> None:
        """Print that a run has started."""
        self._say(f"{self._count()} {name}: on {slot.name}")

    def note_end(self, name: str, verdict: Outcome, outcome: str) -> None:
        """Print the outcome of a run."""
        self._num_done += verdict == "completed"
        if verdict == "completed" and not outcome:
            outcome = _result(self._read(name))
        self._say(f"{self._count()} {name}: {WORDS[verdict]}{f' ({outcome})' if outcome else ''}")

    def note_wait(self, name: str) -> None:
        """Print once that another process trains a run."""
        if name not in self._waited:
            self._waited.add(name)
            self._say(f"{self._count()} {name}: another process trains it; waiting until it ends")

    def has_waited(self, name: str) -> bool:
        """Return whether another process was seen to train a run."""
        return name in self._waited

    def note_stop(self, reason: str, num_running: int) -> None:
        """Print that the sweep is stopping and starts no more runs."""
        runs = f"{num_running} run{'' if num_running == 1 else 's'}"
        self._say(f"{reason}: {runs} finishing the step, then saving; Ctrl-C again to quit now")

    def explain(self, name: str, reason: str, log: Path) -> None:
        """Print why a run is not completed."""
        self._say(f"{name}: not completed: {reason or 'see its log'}\n  log: {log}")

    def show(self, at_work: Mapping[str, str]) -> None:
        """Refresh the progress of the running runs at an interval."""
        now = time.monotonic()
        if self._live.is_started and now - self._looked > SECONDS_BETWEEN_LOOKS:
            self._looked = now
            self._live.update(self._table(at_work), refresh=True)
        elif not self._live.is_started and now - self._told > SECONDS_BETWEEN_LINES and at_work:
            self._told = now
            runs = ", ".join(f"{name}{_progress(self._read(name))}" for name in at_work)
            self._say(f"{self._count()} {runs}")

    def _table(self, at_work: Mapping[str, str]) -> Table:
        table = Table(box=None, pad_edge=False)
        metric = metric_label(run.config.task.facts for run in self._runs.values())
        for head in ("on", "run", "epoch", f"{metric}(val)"):
            table.add_column(head)
        for name, slot in at_work.items():
            record = self._read(name)
            epoch = f"{record.epochs_completed}/{record.epochs_planned}" if record else "starting"
            table.add_row(slot, name, epoch, _best_score(record))
        return table

    def _read(self, name: str) -> RunRecord | None:
        with suppress(RsdlError):  # the next refresh reads it again
            return self._runs[name].folder.read_record()
        return None

    def _count(self) -> str:
        width = len(str(len(self._runs)))
        return f"[{self._num_done:>{width}}/{len(self._runs)}]"

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False)


def _progress(record: RunRecord | None) -> str:
    if record is None:
        return ""
    score = _best_score(record)
    epochs = f" at epoch {record.epochs_completed}/{record.epochs_planned}"
    return epochs + (f", val {record.facts.label} {score}" if score else "")


def _result(record: RunRecord | None) -> str:
    """Return the score of a completed run on the split of its last evaluation."""
    if record is None:
        return ""
    splits = [name for name in record.metrics if name not in ("best", "final")]
    split = splits[-1] if splits else "best"
    score = record.score(split)
    split = "val" if split == "best" else split
    return "" if score is None else f"{split} {record.facts.label} {score:.2%}"


def _best_score(record: RunRecord | None) -> str:
    score = record.score("best") if record is not None else None
    return "" if score is None else f"{score:.2%}"
