"""Cost of a training step on a CPU when freed memory is returned to the kernel, and when kept.

Two processes train the same network on the same batch with a hand-written loop, interleaved; one
of them has called :func:`rsdl.core.allocator.keep_freed_memory`, as ``rsdl train`` does when it
trains on a CPU.

    python -m benchmarks.trainer.allocator [--model resnet50] [--batch-size 16]
"""

import argparse
import resource
import statistics
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import timm
import torch
import torch.nn.functional as F

from benchmarks.harness.machine import describe_versions
from benchmarks.harness.measure import Aim, Row, Table, build_result, run_benchmark, take_turns
from rsdl.core.allocator import keep_freed_memory

RETURNED, KEPT = "memory goes back to the kernel", "memory is kept"
NUM_CLASSES = 21


@dataclass(frozen=True, slots=True)
class Turn:
    """Cost of some steps.

    Attributes:
        seconds: Wall time.
        cpu_s: CPU time.
        faults: Page faults, in which the kernel mapped a page.
        rss_mb: Peak memory of the process so far.
    """

    seconds: float
    cpu_s: float
    faults: int
    rss_mb: float


class Trainee:
    """A process that trains on request."""

    def __init__(self, options: argparse.Namespace, *, kept: bool) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=train, args=(theirs, vars(options), kept), daemon=True
        )
        self._process.start()
        self.turns: list[Turn] = []

    def run_turn(self) -> float:
        """Return images per second."""
        self._pipe.send("go")
        images, turn = self._pipe.recv()
        self.turns.append(Turn(**turn))
        return float(images / self.turns[-1].seconds)

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.join()


def train(pipe: Connection, options: dict[str, Any], kept: bool) -> None:
    """Train a few steps for each message from the pipe."""
    if kept and not keep_freed_memory():
        raise SystemExit("this C library cannot be told to keep memory, or the environment decides")
    size, side = options["batch_size"], options["image_size"]
    network = timm.create_model(options["model"], num_classes=NUM_CLASSES).train()
    network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), foreach=True)
    images = torch.randn(size, 3, side, side).contiguous(memory_format=torch.channels_last)
    targets = torch.arange(size) % NUM_CLASSES
    while pipe.recv():
        before, begin, cpu_s = _faults(), time.perf_counter(), time.process_time()
        for _ in range(options["steps"]):
            F.cross_entropy(network(images), targets).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
        seconds, cpu_s = time.perf_counter() - begin, time.process_time() - cpu_s
        rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        turn = Turn(seconds, cpu_s, _faults() - before, rss_mb)
        pipe.send((size * options["steps"], asdict(turn)))


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's own options."""
    add = parser.add_argument
    add("--model", default="resnet50", help="network (%(default)s)")
    add("--image-size", type=int, default=224, help="px (%(default)s)")
    add("--batch-size", type=int, default=16, help="images (%(default)s)")
    add("--steps", type=int, default=2, help="in a turn (%(default)s)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure; return the result."""
    with ExitStack() as stack:
        trainees = {
            name: Trainee(options, kept=name == KEPT) for name in (RETURNED, KEPT)
        }  # fmt: skip
        for trainee in trainees.values():
            stack.callback(trainee.close)
        figures = take_turns(
            {name: trainee.run_turn for name, trainee in trainees.items()}, rounds=options.rounds
        )
        counted = {name: trainee.turns[-options.rounds :] for name, trainee in trainees.items()}
    where = f"{options.model} at {options.image_size} px, batches of {options.batch_size}"
    rates = [
        Row(name, values, facts=facts(counted[name], options)) for name, values in figures.items()
    ]
    speed = Table(f"Training on the processor, {where}", "images/s", RETURNED, rates)
    per_image = options.steps * options.batch_size
    cpu = Table(
        f"Processor time, {where}", "CPU ms/image", RETURNED,
        [Row(name, [1e3 * turn.cpu_s / per_image for turn in turns])
         for name, turns in counted.items()],
    )  # fmt: skip
    cheap = cpu.ratio(KEPT)
    assert cheap is not None
    aim = Aim("CPU time with memory kept over returned", cheap.median, 1.0, at_least=False)
    title = "Keeping freed memory while training on a processor"
    return build_result(
        "allocator", title, [speed, Table(cpu.title, cpu.unit, RETURNED, cpu.rows, [aim])],
        options=vars(options), versions=describe_versions(("torch", "timm")),
    )  # fmt: skip


def facts(turns: list[Turn], options: argparse.Namespace) -> dict[str, float]:
    """Return the pages mapped per step, and the peak memory."""
    faults = statistics.median(turn.faults for turn in turns) / options.steps
    return {"pages mapped a step": faults, "peak RSS MB": max(turn.rss_mb for turn in turns)}


def main() -> None:
    """Run the benchmark."""
    run_benchmark(__doc__, add_arguments, run)


if __name__ == "__main__":
    main()
