"""Turns of training steps: contenders, batch size, and the cost of each turn.

All contenders of a network share one process and are interleaved on the one device. Each is built
once, and its first turn, in which it compiles, does not count.
"""

import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from benchmarks.harness.measure import take_turns
from benchmarks.peers.step_task import Batches, StepTask, Trainee, draw_batches
from benchmarks.peers.train_lightning import PlainLightning
from benchmarks.peers.train_ours import RsdlTrain
from benchmarks.peers.train_timm import TimmScript
from benchmarks.trainer.step_timer import StepClock, Turn

OURS, COMPILED, GRAPHS = "rsdl train", "rsdl train, compiled", "rsdl train, CUDA graphs"
TIMM, TIMM_COMPILED, PLAIN = "timm script", "timm script, compiled", "plain Lightning"
Build = Callable[[StepTask, Batches], Trainee]
CONTENDERS: dict[str, Build] = {
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


@dataclass(slots=True)
class Record:
    """Measurements of one contender.

    Attributes:
        turns: Turns that count.
        peak_bytes: Peak memory of its tensors, on a GPU.
        note: Why it has no values.
    """

    turns: list[Turn] = field(default_factory=list)
    peak_bytes: int = 0
    note: str = ""


def measure(task: StepTask, names: Sequence[str], rounds: int) -> dict[str, Record]:
    """Interleave contenders; return the measurements of each.

    Args:
        task: The task.
        names: Names of the contenders.
        rounds: Turns of each that count.
    """
    batches = draw_batches(task)
    records = {name: Record() for name in names}
    trainees: dict[str, Trainee] = {}
    try:
        for name in names:
            try:
                trainees[name], records[name].peak_bytes = _enter(name, task, batches)
            except torch.OutOfMemoryError:
                records[name].note = f"out of memory at batches of {task.batch_size}"
            clean(task.device)

        def turn(name: str) -> float:
            records[name].turns.append(take_turn(trainees[name], task))
            return records[name].turns[-1].seconds

        take_turns({name: partial(turn, name) for name in trainees}, rounds=rounds, warmups=0)
    finally:
        for trainee in trainees.values():
            trainee.close()
        trainees.clear()
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
            with open_trainee(RsdlTrain, tried) as trainee:
                rate = size * tried.steps / take_turn(trainee, tried).seconds
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


def take_turn(trainee: Trainee, task: StepTask) -> Turn:
    """Run one turn and return its cost."""
    reset_backends()
    clock = StepClock(task.device)
    trainee.run(clock)
    assert clock.turn is not None and clock.turn.steps == task.steps
    return clock.turn


@contextmanager
def open_trainee(build: Build, task: StepTask) -> Iterator[Trainee]:
    """Build a contender, and release it at the end."""
    trainee = build(task, draw_batches(task))
    try:
        yield trainee
    finally:
        trainee.close()


def reset_backends() -> None:
    """Reset PyTorch's defaults, so that each contender starts with its own settings only."""
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


def _enter(name: str, task: StepTask, batches: Batches) -> tuple[Trainee, int]:
    """Build a contender and warm it up; return it, and the memory that it allocated."""
    on_gpu = task.device.type == "cuda"
    before = torch.cuda.memory_allocated(task.device) if on_gpu else 0
    trainee = CONTENDERS[name](task, batches)
    try:
        turn = take_turn(trainee, task)
    except torch.OutOfMemoryError:
        trainee.close()
        raise
    say(f"  {name}: {task.batch_size * turn.steps / turn.seconds:,.0f} images/s")
    return trainee, max(turn.peak_bytes - before, 0)
