"""What the trainer costs beside the network, and how long it takes to start.

Steps: ``rsdl train`` as it is (Lightning, record, ledger, log rows, checkpoints, ready to be killed
at any step) beside a hand-written PyTorch loop, on the very same batches, which lie on the device
before the clock runs: no loading, no augmentation, no validation on either side. Both train the
same network with the same optimizer, precision and memory layout; epochs alternate. The network is
tiny, so that what each step costs beside it shows; for a real one its share vanishes.

Start: seconds of ``rsdl --help``, and of ``rsdl train`` on a packed data set from the start of the
process to the first optimizer step, each beside what Python and PyTorch alone take.

    python -m benchmarks.overhead [--steps 200]
"""

import argparse
import math
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F

from benchmarks.contender import ROOT
from benchmarks.crowd import write_crowd
from benchmarks.first_step import MODEL
from benchmarks.machine import describe_versions
from benchmarks.measure import Aim, Row, Table, build_result, run_benchmark, take_turns
from benchmarks.plain_loop import Spent, take_epochs
from benchmarks.resume import FirstStep, write_config
from rsdl.commands.session import Session
from rsdl.config.load import validate
from rsdl.config.run import RunConfig
from rsdl.core.batch import Batch
from rsdl.data.dataset import DataSet, train_plan
from rsdl.data.loader import BatchLoader
from rsdl.data.module import load_rule
from rsdl.data.plan import SamplingPlan, Share
from rsdl.train.trainer import choose_precision

SHARE_OF_PLAIN = 0.97
HELP_S, FIRST_STEP_S = 0.5, 6.0
PLAIN, OURS = "hand-written loop", "rsdl train"
IMPORTS = "import torch, pytorch_lightning, timm"


class HeldBatches:
    """Stands in for a loader: the batches of one epoch, again and again, from the device's memory.

    Args:
        plan: Whose batches they are.
        batches: The batches, on the device.
    """

    def __init__(self, plan: SamplingPlan, batches: Sequence[Batch]) -> None:
        self.plan = plan
        self.batches = batches
        self.start = 0
        self.waited_s = 0.0

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches."""
        return iter(self.batches)


class WrittenLoop:
    """What one writes by hand: AdamW, cosine, and a look at the loss every ten steps."""

    def __init__(self, config: RunConfig, dataset: DataSet, batches: Sequence[Batch]) -> None:
        manifest = dataset.manifest
        self.device = batches[0].images.device
        self.batches = batches
        network = timm.create_model(config.model.name, num_classes=len(manifest.classes))
        network = network.to(self.device).to(memory_format=torch.channels_last)
        self.network = network.train()
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05)
        num_steps = config.trainer.max_epochs * len(batches)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, num_steps)
        shape = (1, -1, 1, 1)
        self.mean = torch.tensor(manifest.mean, device=self.device).view(shape)
        self.std = torch.tensor(manifest.std, device=self.device).view(shape)
        self.half = choose_precision(config.trainer) == "bf16-mixed"
        self.losses: list[float] = []

    def run_epoch(self) -> None:
        """Train one epoch."""
        for number, batch in enumerate(self.batches):
            images = (batch.images.permute(0, 3, 1, 2).float() - self.mean) / self.std
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
                loss = F.cross_entropy(self.network(images), batch.targets)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.schedule.step()
            if number % 10 == 9:
                self.losses.append(loss.item())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's own options."""
    add = parser.add_argument
    add("--model", default=MODEL, help="network (%(default)s)")
    add("--image-size", type=int, default=64, help="px (%(default)s)")
    add("--batch-size", type=int, default=64, help="images (%(default)s)")
    add("--steps", type=int, default=200, help="in an epoch (%(default)s)")
    add("--accelerator", default="auto", choices=("auto", "cpu", "gpu"), help="(%(default)s)")
    add("--work", type=Path, help="folder for data and runs (default: a temporary one)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure; return the result."""
    steps = max(options.steps // 4, 10) if options.quick else options.steps
    with tempfile.TemporaryDirectory() as temporary:
        work = (options.work or Path(temporary)).resolve()
        url = write_crowd(work / f"crowd-{steps * options.batch_size}", steps * options.batch_size)
        tables = [*measure_steps(url, options), *measure_start(url, work, options.rounds)]
    title = f"The trainer's own cost: {options.model} at {options.image_size} px"
    versions = describe_versions(("rsdl-train", "torch", "pytorch-lightning", "timm"))
    return build_result("overhead", title, tables, options=vars(options), versions=versions)


def measure_steps(url: str, options: argparse.Namespace) -> list[Table]:
    """Return the tables of steps: by the time that passes, and by that of the processor."""
    config = validate(
        {
            "name": "overhead",
            "data": {
                "url": url, "image_size": options.image_size, "batch_size": options.batch_size,
            },
            "model": {"name": options.model},
            "augment": {"flip": False, "rotate90": False},
            # The first epoch of each is not counted.
            "trainer": {"accelerator": options.accelerator, "max_epochs": 1 + options.rounds},
        }
    )  # fmt: skip
    dataset = DataSet(config.data)
    on_gpu = options.accelerator != "cpu" and torch.cuda.is_available()
    held = hold_batches(config, dataset, torch.device("cuda" if on_gpu else "cpu"))
    plain = WrittenLoop(config, dataset, held.batches)

    def feed(session: Session) -> None:
        def train_dataloader() -> HeldBatches:
            session.data.train_loader = held  # type: ignore[assignment]
            return held

        session.data.train_dataloader = train_dataloader  # type: ignore[method-assign,assignment]

    spent = dict(zip((PLAIN, OURS), take_epochs(config, plain.run_epoch, feed), strict=True))
    assert all(math.isfinite(loss) for loss in plain.losses)
    where = f"batches of {options.batch_size}, {len(held)} steps an epoch"
    threads = f"{torch.get_num_threads()} threads" if not on_gpu else "on the GPU"
    return steps_tables(f"{where}, {threads}", len(held), spent)


def steps_tables(title: str, steps: int, spent: Mapping[str, Sequence[Spent]]) -> list[Table]:
    """Return the tables for what the epochs have taken."""
    rates = [
        Row(name, [steps / epoch.seconds for epoch in epochs], facts=step_facts(steps, epochs))
        for name, epochs in spent.items()
    ]
    work = [
        Row(name, [1e3 * epoch.cpu_s / steps for epoch in epochs]) for name, epochs in spent.items()
    ]
    speed = Table(f"Steps, {title}", "steps/s", PLAIN, rates)
    cpu = Table(f"Processor time of a step, {title}", "CPU ms", PLAIN, work)
    fast, cheap = speed.ratio(OURS), cpu.ratio(OURS)
    assert fast is not None
    assert cheap is not None
    aims = [Aim("steps/s of rsdl train over the loop's", fast.median, SHARE_OF_PLAIN)]
    bounds = [Aim("CPU time over the loop's", cheap.median, 1 / SHARE_OF_PLAIN, at_least=False)]
    return [
        Table(speed.title, speed.unit, PLAIN, rates, aims),
        Table(cpu.title, cpu.unit, PLAIN, work, bounds),
    ]


def step_facts(steps: int, epochs: Sequence[Spent]) -> dict[str, float]:
    """Return what a step takes, in milliseconds."""
    return {"ms/step": 1e3 * statistics.median(epoch.seconds for epoch in epochs) / steps}


def hold_batches(config: RunConfig, dataset: DataSet, device: torch.device) -> HeldBatches:
    """Return the batches of the first epoch, on the device."""
    data = dataset.split("train", "data.train_split")
    plan = train_plan(config.data, data, seed=config.seed, epoch=0)
    rule = load_rule(config.data, training=True, pin_memory=False, processes=1)
    # A loader may lend its memory to the batches that come next.
    loader = BatchLoader(data, plan, Share(), rule)
    return HeldBatches(plan, [copy(batch).to(device) for batch in loader])


def copy(batch: Batch) -> Batch:
    """Return a batch in memory of its own."""
    names = ("images", "targets", "valid", "samples", "uniforms")
    return replace(batch, **{name: getattr(batch, name).clone() for name in names})


def measure_start(url: str, work: Path, rounds: int) -> list[Table]:
    """Return the tables of starting: the help, and a training up to its first step."""
    config = write_config(url, work / "runs")
    python = [sys.executable, "-c"]
    helps = {
        "Python alone": Timed(lambda: run_quietly([*python, "pass"])),
        "rsdl --help": Timed(lambda: run_quietly([sys.executable, "-m", "rsdl", "--help"])),
    }
    first = FirstStep(["rsdl", str(config)])
    starts = {
        f'python -c "{IMPORTS}"': Timed(lambda: run_quietly([*python, IMPORTS])),
        "rsdl train, to its first step": Timed(
            first, partial(shutil.rmtree, work / "runs" / "resume", ignore_errors=True)
        ),
    }
    return [
        start_table("Start of the command line", helps, HELP_S, rounds),
        start_table(
            f"Start of a training ({MODEL}, packed data set)", starts, FIRST_STEP_S, rounds
        ),
    ]


def start_table(title: str, contenders: Mapping[str, "Timed"], bound: float, rounds: int) -> Table:
    """Return a table of seconds; the last contender is ours, and has to keep the bound."""
    figures = take_turns(contenders, rounds=rounds)
    rows = [
        # Of the rounds that count; one has warmed up.
        Row(name, values, facts={"CPU s": statistics.median(contenders[name].cpu_s[1:])})
        for name, values in figures.items()
    ]
    ours = rows[-1]
    aim = Aim(f"{ours.name}: seconds", statistics.median(ours.values), bound, at_least=False)
    return Table(title, "s", rows[0].name, rows, [aim])


class Timed:
    """Something that runs a child process: times it, and keeps the child's processor time.

    Args:
        work: Runs it.
        prepare: Comes before, off the clock.
    """

    def __init__(
        self, work: Callable[[], object], prepare: Callable[[], object] = lambda: None
    ) -> None:
        self._work = work
        self._prepare = prepare
        self.cpu_s: list[float] = []

    def __call__(self) -> float:
        """Return seconds."""
        self._prepare()
        before, begin = children_cpu_s(), time.perf_counter()
        self._work()
        seconds = time.perf_counter() - begin
        self.cpu_s.append(children_cpu_s() - before)
        return seconds


def children_cpu_s() -> float:
    """Return the processor time of children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run_quietly(command: Sequence[str]) -> None:
    """Run a command that has to succeed."""
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


def main() -> None:
    """Run the benchmark."""
    run_benchmark(__doc__, add_arguments, run)


if __name__ == "__main__":
    main()
