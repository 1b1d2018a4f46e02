"""A run on two nodes of one machine, and what every change of them costs it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from benchmarks.harness.worker_process import ROOT, descendants

STARTS, STOPS, COMES, LOST = (
    "The whole starts", "A node is asked to stop", "A node comes", "A node is lost"
)  # fmt: skip
STEPS, BATCH_SIZE = 40, 64  # of an epoch on two nodes
PAUSE_S = 0.05  # added to each step, so that an epoch takes seconds
LIMIT_S = 150.0
PARTS = ("ending s", "meeting s", "importing s", "building to step s")
STEP_LOG = Path(__file__).with_name("step_log")


@dataclass(frozen=True, slots=True)
class Program:
    """What trains.

    Attributes:
        nodes: Arguments of Python for node 0 and node 1.
        checkpoint: What it saves to at the end of an epoch.
        store: Arguments of Python for a process that runs beside the nodes.
        keeps_batch: Whether a step has as many samples on one node as on two.
    """

    nodes: tuple[Sequence[str], Sequence[str]]
    checkpoint: Path
    store: Sequence[str] = ()
    keeps_batch: bool = False

    def step_samples(self, world_size: int) -> int:
        """Return the samples of an optimizer step."""
        return BATCH_SIZE if self.keeps_batch else BATCH_SIZE * world_size // 2


@dataclass(slots=True)
class Rank:
    """What one rank has noted: times in seconds since the epoch, and its optimizer steps.

    Attributes:
        begun: When its Python started.
        world_size: Ranks in its attempt.
        building: When it began to build the network: imports are done, and data are open.
        ended: When it ended; 0 where it was killed.
        steps: Time and number of each step.
    """

    begun: float
    world_size: int
    building: float = 0.0
    ended: float = 0.0
    steps: list[tuple[float, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a change has cost.

    Attributes:
        seconds: From the last step before it to the first after it.
        again: Samples of optimizer steps that were made again.
        parts: The seconds by what was done in them.
    """

    seconds: float
    again: int
    parts: dict[str, float]


class Run:
    """One run of a program.

    Args:
        program: What trains.
        folder: For what the processes note and say.
    """

    def __init__(self, program: Program, folder: Path) -> None:
        self._program, self._folder = program, folder
        self._notes = folder / "steps"
        self._notes.mkdir(parents=True)
        self._started: list[subprocess.Popen[bytes]] = []

    def change_all(self) -> dict[str, Cost]:
        """Make every change once; return what each has cost.

        Raises:
            RuntimeError: If the run does not go on.
        """
        first, second = self._program.nodes
        try:
            changed = time.time()
            if self._program.store:
                self._start(self._program.store)
            self._staying = self._start(first)
            node = self._start(second)
            costs = {STARTS: self._await_cost(changed, 2)}

            changed = self._await_middle(2)
            node.send_signal(signal.SIGTERM)
            costs[STOPS] = self._await_cost(changed, 1)
            node.wait(LIMIT_S)

            changed = self._await_middle(1)
            node = self._start(second)
            costs[COMES] = self._await_cost(changed, 2)

            changed = self._await_middle(2)
            kill_tree(node)
            costs[LOST] = self._await_cost(changed, 1)
            return costs
        finally:
            for process in self._started:
                kill_tree(process)

    def _start(self, arguments: Sequence[str]) -> "subprocess.Popen[bytes]":
        paths = ":".join([str(STEP_LOG), str(ROOT), os.environ.get("PYTHONPATH", "")])
        notes = {"STEP_LOG": str(self._notes), "STEP_PAUSE": str(PAUSE_S)}
        # Otherwise torchrun 2.14 ends the run when a node comes: those that stay do not tell it the
        # address of the ranks' store again.
        notes["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
        env = {**os.environ, **notes, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        with (self._folder / "said").open("ab") as said:
            process = subprocess.Popen(
                [sys.executable, *arguments], cwd=ROOT, env=env, stdout=said, stderr=said
            )
        self._started.append(process)
        return process

    def _await_middle(self, world_size: int) -> float:
        """Wait until half an epoch after a save of the present ranks; return the time."""
        half = STEPS * BATCH_SIZE // 2 // self._program.step_samples(world_size)

        def is_there() -> bool:
            steps = [at for at, _ in self._ranks(world_size)[-1].steps]
            checkpoint = self._program.checkpoint
            saved = checkpoint.stat().st_mtime if checkpoint.exists() else 0.0
            return saved > steps[0] and sum(at > saved for at in steps) >= half

        self._wait_until(is_there)
        return time.time()

    def _await_cost(self, changed: float, world_size: int) -> Cost:
        """Wait for the first step after a change to so many ranks; return what it has cost."""
        self._wait_until(lambda: any(r.begun > changed for r in self._ranks(world_size)))
        new = next(rank for rank in self._ranks(world_size) if rank.begun > changed)
        old = [rank for rank in self._ranks(3 - world_size) if rank.begun < changed]
        samples = self._program.step_samples(3 - world_size)
        return find_cost(old[world_size - 3 :], new, changed, samples)

    def _ranks(self, world_size: int) -> list[Rank]:
        """Return the ranks that have made a step among so many."""
        ranks = read_ranks(self._notes)
        return [rank for rank in ranks if rank.steps and rank.world_size == world_size]

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + LIMIT_S
        while not condition():
            if time.monotonic() > end or self._staying.poll() is not None:
                raise RuntimeError(f"no step was made:\n{(self._folder / 'said').read_text()}")
            time.sleep(0.1)


def find_cost(old: Sequence[Rank], new: Rank, changed: float, samples: int) -> Cost:
    """Return what a change has cost.

    Args:
        old: The ranks that trained before; none at the start.
        new: A rank that trains after.
        changed: Time of the change, in seconds since the epoch.
        samples: Samples of an optimizer step before.
    """
    first, number = new.steps[0]
    last, done = max((step for rank in old for step in rank.steps), default=(changed, number - 1))
    ended = max((rank.ended for rank in old), default=0.0) or last
    marks = (last, ended, new.begun, new.building, first)
    spent = [end - begin for begin, end in pairwise(marks)]
    parts = {name: seconds for name, seconds in zip(PARTS, spent, strict=True) if seconds}
    return Cost(first - last, samples * max(done - number + 1, 0), parts)


def read_ranks(folder: Path) -> list[Rank]:
    """Return what the ranks have noted until now, in the order of their starts."""
    ranks = []
    for path in sorted(folder.iterdir()):
        whole, _, _ = path.read_text().rpartition("\n")
        notes = [json.loads(line) for line in whole.splitlines()]
        if notes:
            _, begun, world_size = notes[0]
            times = {what: at for what, at, _ in notes if what in ("building", "ended")}
            steps = [(at, number) for what, at, number in notes if what == "step"]
            ranks.append(Rank(begun, world_size, steps=steps, **times))
    return ranks


def kill_tree(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process and all that it has started, if it lives."""
    if process.poll() is None:
        for pid in [process.pid, *descendants(process.pid)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
