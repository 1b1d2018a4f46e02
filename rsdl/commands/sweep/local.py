"""``rsdl sweep local``: run a study on one machine, with a queue over its devices.

Each run is a separate ``rsdl train`` process, so that a crash does not affect other runs, and every
run is resumed, recorded and stopped as if it had been started by hand. The sweep itself stores
nothing: progress is in the runs' records, so it can be killed at any time and started again.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

import torch
from rich.console import Console

from rsdl.cluster.device_slots import (
    DeviceSlot,
    find_slots,
    last_log_line,
    lock_run,
    log_of,
    start_run,
    state_folder,
)
from rsdl.cluster.queue import Outcome, Queue
from rsdl.commands.report import print_totals, read_study, write_study
from rsdl.commands.runs import is_completed
from rsdl.commands.sweep.plan import ONCE, PlannedRun, Repeats, plan_study, split_arguments
from rsdl.commands.sweep.view import SweepView
from rsdl.core.errors import PreemptedError, RsdlError
from rsdl.storage.connect import connect, join
from rsdl.train.signals import SIGNALS

PAGE = "study.html"
PAUSE_S = 0.1


def sweep_local(
    arguments: Sequence[str],
    *,
    devices: int,
    repeats: Repeats = ONCE,
    dry_run: bool = False,
    retry: bool = False,
) -> int:
    """Train every run of a study that is not completed, and write the report of the study.

    Args:
        arguments: Config files, and ``key=value`` overrides for all of them.
        devices: Concurrent runs: one on each GPU, or on a share of the cores.
        repeats: Runs of each config.
        dry_run: Whether to only print what would be done.
        retry: Whether to retry runs that failed in an earlier sweep.

    Returns:
        0 if every run is completed, 2 if the input of one is wrong, 1 if one has failed.

    Raises:
        ConfigErrors: If any config is wrong; no run was started then.
        PreemptedError: If it was asked to stop and all runs have saved.
    """
    paths, overrides = split_arguments(arguments)
    runs = plan_study(paths, overrides, repeats)
    on_cpu = all(run.config.trainer.accelerator == "cpu" for run in runs)
    slots = find_slots(devices, 0 if on_cpu else torch.cuda.device_count())
    view = SweepView(Console(file=sys.stdout, soft_wrap=True), runs)
    view.announce(slots, retry=retry)
    if dry_run:
        return 0
    sweep = Sweep(runs, overrides, slots, view, retry=retry)
    sweep.run()
    if sweep.queue.is_cut_short:
        if signal.SIGINT in sweep.received:
            raise KeyboardInterrupt
        raise PreemptedError("sweep", "stopped by SIGTERM", "run it again to go on")
    study = read_study([run.folder for run in runs if run.folder.read_record() is not None])
    page = join(runs[0].config.output, PAGE)
    if study.rows:
        write_study(study, page, storage=runs[0].config.storage)
        print_totals(study, page)
    return sweep.settle()


class Sweep:
    """Runs the processes of a study on device slots until all have ended.

    Args:
        runs: Runs of the study.
        overrides: ``key=value`` overrides for all of them.
        slots: Device slots, each for one process.
        view: Prints progress.
        retry: Whether to retry runs that have failed before.
    """

    def __init__(
        self,
        runs: Sequence[PlannedRun],
        overrides: Sequence[str],
        slots: Sequence[DeviceSlot],
        view: SweepView,
        *,
        retry: bool,
    ) -> None:
        self.runs = {run.name: run for run in runs}
        self.queue = Queue(run.name for run in runs if run.todo(retry=retry) != "leave")
        self.received: list[int] = []
        self._left = [run for run in runs if run.todo(retry=retry) == "leave"]
        self._overrides = overrides
        self._slots = slots
        self._view = view
        output = connect(runs[0].config.output, storage=runs[0].config.storage)
        self._state = state_folder(output)
        self._processes: dict[DeviceSlot, tuple[str, subprocess.Popen[bytes]]] = {}
        self._handled = 0

    def run(self) -> None:
        """Start runs as slots become free, until all have ended; forward signals."""
        before = {
            number: signal.signal(number, lambda number, frame: self.received.append(number))
            for number in SIGNALS
        }
        try:
            with self._view:
                while not self.queue.is_done:
                    self._pass_signals()
                    self._reap()
                    self._fill()
                    self._view.show(self._at_work())
                    time.sleep(PAUSE_S)
        finally:
            for _, process in self._processes.values():
                process.kill()
                process.wait()
            for number, handler in before.items():
                signal.signal(number, handler)

    def settle(self) -> int:
        """Print which runs are not completed and why, and return the command's exit code."""
        verdicts = dict(self.queue.outcomes)
        for run in self._left:
            verdicts[run.name] = "completed" if run.is_completed else "failed"
        wanting = {name: verdict for name, verdict in verdicts.items() if verdict != "completed"}
        for name in wanting:
            self._view.explain(name, self._reason(name), log_of(self._state, name))
        if "failed" in wanting.values():
            return 1
        return 2 if wanting else 0

    def _pass_signals(self) -> None:
        """Send SIGTERM to all runs, so that they save; SIGINT at the second Ctrl-C."""
        for number in self.received[self._handled :]:
            self._handled += 1
            again = self.queue.stopping and number == signal.SIGINT
            if not self.queue.stopping:
                self.queue.stopping = True
                self._view.note_stop(signal.Signals(number).name, len(self._processes))
            for _, process in self._processes.values():
                process.send_signal(signal.SIGINT if again else signal.SIGTERM)

    def _reap(self) -> None:
        for slot, (name, process) in list(self._processes.items()):
            code = process.poll()
            if code is None:
                continue
            del self._processes[slot]
            verdict = self.queue.finish(name, code)
            self._view.note_end(name, verdict, self._outcome(name, verdict))

    def _fill(self) -> None:
        for slot in self._slots:
            if slot not in self._processes:
                self._begin_next(slot)

    def _begin_next(self, slot: DeviceSlot) -> None:
        """Start the first waiting run that no other process is training, on a slot."""
        for name in self.queue.waiting:
            run = self.runs[name]
            lock = lock_run(self._state, name)
            if lock is None:
                self._view.note_wait(name)
                continue
            if self._view.has_waited(name) and is_completed(run.folder, run.config):
                self.queue.skip(name)
                self._view.note_end(name, "completed", "by another process")
                continue
            fields = [*self._overrides, *run.overrides]
            command = [sys.executable, "-m", "rsdl", "train", run.path, *fields]
            process = start_run(command, slot, log_of(self._state, name), lock)
            self.queue.begin(name)
            self._processes[slot] = (name, process)
            self._view.note_begin(name, slot)
            return

    def _at_work(self) -> dict[str, str]:
        """Return the slot names of the running runs, by run."""
        return {name: slot.name for slot, (name, _) in self._processes.items()}

    def _outcome(self, name: str, verdict: Outcome) -> str:
        if verdict in ("crashed", "failed", "wrong"):
            return self._reason(name)
        return ""

    def _reason(self, name: str) -> str:
        """Return why a run is not completed: its last log line, else the reason in its record."""
        if words := last_log_line(log_of(self._state, name)):
            return words
        with suppress(RsdlError):
            if (record := self.runs[name].folder.read_record()) is not None:
                return record.reason
        return ""
