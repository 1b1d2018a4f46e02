"""Turns of training steps: trainers, batch size, and the cost of each turn.

All trainers of a network share one process and are interleaved on the one device. Each is built
once, and its first turn, in which it compiles, does not count.
"""

import gc
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from benchmarks.harness.measure import interleave
from benchmarks.trainer.peers.plain_lightning import PlainLightning
from benchmarks.trainer.peers.rsdl_train import RsdlTrain
from benchmarks.trainer.peers.timm_script import TimmScript
from benchmarks.trainer.step_task import WARM_STEPS, Batches, StepTask, StepTrainer, draw_batches

OURS, COMPILED, GRAPHS = "rsdl train", "rsdl train, compiled", "rsdl train, CUDA graphs"
TIMM, TIMM_COMPILED, PLAIN = "timm script", "timm script, compiled", "plain Lightning"
Build = Callable[[StepTask, Batches], StepTrainer]
TRAINERS: dict[str, Build] = {
    OURS: RsdlTrain,
    COMPILED: partial(RsdlTrain, compiled="on"),
    GRAPHS: partial(RsdlTrain, compiled="reduce-overhead"),
    TIMM: TimmScript,
    TIMM_COMPILED: partial(TimmScript, compiled=True),
    PLAIN: PlainLightning,
}
LARGEST_BATCH = 1024
GAIN_THAT_PAYS = 1.03  # minimum speedup in images/s when the batch doubles
TURN_S = 2.0
LEAST_STEPS, MOST_STEPS = 10, 100


@dataclass(frozen=True, slots=True)
class Turn:
    """Cost of the steps of a turn.

    Attributes:
        steps: Steps that count.
        seconds: Wall time until the device had finished all steps.
        launch_s: Time until the host had launched the last step; if it equals ``seconds``, the
            device waited for the host.
        peak_bytes: Peak memory of tensors, on a GPU; else 0.
    """

    steps: int
    seconds: float
    launch_s: float
    peak_bytes: int


class StepClock:
    """Measures from the first step that counts to the end of the last.

    Args:
        device: Device that trains.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._ticks = 0
        self.turn: Turn | None = None

    def tick(self) -> None:
        """Start the measurement after the warm-up steps."""
        self._ticks += 1
        if self._ticks == WARM_STEPS + 1:
            self._wait()
            if self._device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(self._device)
            self._begin = time.perf_counter()

    def stop(self) -> None:
        """Stop once the device has finished all work."""
        launched = time.perf_counter()
        self._wait()
        end, on_gpu = time.perf_counter(), self._device.type == "cuda"
        self.turn = Turn(
            steps=self._ticks - WARM_STEPS,
            seconds=end - self._begin,
            launch_s=launched - self._begin,
            peak_bytes=torch.cuda.max_memory_allocated(self._device) if on_gpu else 0,
        )

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


@dataclass(slots=True)
class Record:
    """Measurements of one trainer.

    Attributes:
        turns: Turns that count.
        peak_bytes: Peak memory of its tensors, on a GPU.
        note: Why it has no values.
    """

    turns: list[Turn] = field(default_factory=list)
    peak_bytes: int = 0
    note: str = ""


def measure(task: StepTask, names: Sequence[str], rounds: int) -> dict[str, Record]:
    """Interleave trainers; return the measurements of each.

    Args:
        task: The task.
        names: Names of the trainers.
        rounds: Turns of each that count.
    """
    batches = draw_batches(task)
    records = {name: Record() for name in names}
    trainers: dict[str, StepTrainer] = {}
    try:
        for name in names:
            try:
                trainers[name], records[name].peak_bytes = _warm_up(name, task, batches)
            except torch.OutOfMemoryError:
                records[name].note = f"out of memory at batches of {task.batch_size}"
            clean(task.device)

        def turn(name: str) -> float:
            records[name].turns.append(take_turn(trainers[name], task))
            return records[name].turns[-1].seconds

        interleave({name: partial(turn, name) for name in trainers}, rounds=rounds, warmups=0)
    finally:
        for trainer in trainers.values():
            trainer.close()
        trainers.clear()
        clean(task.device)
    return records


def find_batch_size(task: StepTask) -> tuple[int, float]:
    """Return the largest batch that gains speed, and its images/s with ``rsdl train``.

    The batch is doubled while that gains speed and fits the memory.
    """
    best: tuple[int, float] | None = None
    size = task.batch_size
    while size <= LARGEST_BATCH:
        tried = replace(task, batch_size=size)
        try:
            with open_trainer(RsdlTrain, tried) as trainer:
                rate = size * tried.steps / take_turn(trainer, tried).seconds
        except torch.OutOfMemoryError:
            say(f"  batches of {size} do not fit")
            break
        finally:
            clean(task.device)
        say(f"  batches of {size}: {rate:,.0f} images/s")
        if best is not None and rate < GAIN_THAT_PAYS * best[1]:
            break
        best, size = (size, rate), 2 * size
    if best is None:
        raise SystemExit(f"{task.model}: not even batches of {size} fit; pass --batch-size")
    return best


def choose_steps(batch_size: int, images_per_s: float) -> int:
    """Return the number of steps for a turn of about ``TURN_S`` seconds."""
    return min(max(round(TURN_S * images_per_s / batch_size), LEAST_STEPS), MOST_STEPS)


def take_turn(trainer: StepTrainer, task: StepTask) -> Turn:
    """Run one turn and return its cost."""
    reset_backends()
    clock = StepClock(task.device)
    trainer.run(clock)
    assert clock.turn is not None and clock.turn.steps == task.steps
    return clock.turn


@contextmanager
def open_trainer(build: Build, task: StepTask) -> Iterator[StepTrainer]:
    """Build a trainer, and release it at the end."""
    trainer = build(task, draw_batches(task))
    try:
        yield trainer
    finally:
        trainer.close()


def reset_backends() -> None:
    """Reset PyTorch's defaults, so that each trainer starts with its own settings only."""
    torch.backends.cudnn.benchmark = False
    torch.set_float32_matmul_precision("highest")


def clean(device: torch.device) -> None:
    """Free unreferenced memory."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def say(line: str) -> None:
    """Print progress on stderr."""
    print(line, file=sys.stderr, flush=True)


def _warm_up(name: str, task: StepTask, batches: Batches) -> tuple[StepTrainer, int]:
    """Build a trainer and warm it up; return it, and the memory that it allocated."""
    on_gpu = task.device.type == "cuda"
    before = torch.cuda.memory_allocated(task.device) if on_gpu else 0
    trainer = TRAINERS[name](task, batches)
    try:
        turn = take_turn(trainer, task)
    except torch.OutOfMemoryError:
        trainer.close()
        raise
    say(f"  {name}: {task.batch_size * turn.steps / turn.seconds:,.0f} images/s")
    return trainer, max(turn.peak_bytes - before, 0)
