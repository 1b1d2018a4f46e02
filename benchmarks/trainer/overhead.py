"""Cost of the trainer beside the network.

``rsdl train`` with all its parts (Lightning, record, ledger, log rows, checkpoints, ready to
be killed at any step) is compared with a hand-written PyTorch loop on the very same batches, which
are on the device before the measurement: no loading, augmentation or validation on either side.
Both train the same network with the same optimizer, precision and memory layout; epochs alternate.
The network is tiny, so that the cost per step shows; for a real network its share vanishes.

    python -m benchmarks.trainer.overhead [--steps 200]
"""

import argparse
import math
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import timm
import torch
import torch.nn.functional as F

from benchmarks.harness.machine import describe_versions
from benchmarks.harness.measure import Row, Table, Target, build_result, run_benchmark
from benchmarks.harness.tiny_dataset import write_tiny_dataset
from benchmarks.harness.training_fixture import Clock, EpochTime, HeldBatches, open_training
from benchmarks.trainer.first_step import MODEL
from rsdl.config.load import validate
from rsdl.config.run import RunConfig
from rsdl.core.batch import TENSORS, Batch
from rsdl.data.datamodule import load_rule
from rsdl.data.dataset import DataSet, train_plan
from rsdl.data.loader import BatchLoader
from rsdl.data.plan import Share
from rsdl.train.session import Session
from rsdl.train.trainer import choose_precision

SHARE_OF_PLAIN = 0.97  # a regression threshold: measured is 0.986 (overhead.json)
PLAIN, OURS = "hand-written loop", "rsdl train"


class WrittenLoop:
    """A typical hand-written loop: AdamW, cosine schedule, and the loss read every ten steps."""

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
        samples = steps * options.batch_size
        url = write_tiny_dataset(work / f"tiny-{samples}", samples)
        tables = measure_steps(url, options)
    title = f"The trainer's own cost: {options.model} at {options.image_size} px"
    versions = describe_versions(("rsdl-train", "torch", "pytorch-lightning", "timm"))
    return build_result("overhead", title, tables, options=vars(options), versions=versions)


def measure_steps(url: str, options: argparse.Namespace) -> list[Table]:
    """Return the tables of steps: by wall time and by CPU time."""
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


def take_epochs(
    config: RunConfig, reference: Callable[[], None], prepare: Callable[[Session], None]
) -> tuple[list[EpochTime], list[EpochTime]]:
    """Train without validation, and let a reference train an epoch after each of ours.

    Args:
        config: The run; the first epoch of each side is not counted.
        reference: Trains one epoch.
        prepare: Called with the session before the training begins.

    Returns:
        Cost of each counted epoch, of the reference and of ours.
    """
    theirs: list[EpochTime] = []
    ours: list[EpochTime] = []

    class Turns(pl.Callback):
        """Times our epochs, and runs the reference between them."""

        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            self.clock = Clock()

        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            ours.append(self.clock.read())
            clock = Clock()
            reference()
            theirs.append(clock.read())

    with open_training(config) as session:
        session.trainer.callbacks.append(Turns())  # type: ignore[attr-defined]
        session.trainer.limit_val_batches = 0
        prepare(session)
        session.trainer.fit(session.module, datamodule=session.data)
    return theirs[1:], ours[1:]


def steps_tables(title: str, steps: int, spent: Mapping[str, Sequence[EpochTime]]) -> list[Table]:
    """Return the tables for the cost of the epochs."""
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
    steps_target = Target("steps/s of rsdl train over the loop's", fast.median, SHARE_OF_PLAIN)
    cpu_target = Target(
        "CPU time over the loop's", cheap.median, 1 / SHARE_OF_PLAIN, at_least=False
    )
    return [replace(speed, targets=[steps_target]), replace(cpu, targets=[cpu_target])]


def step_facts(steps: int, epochs: Sequence[EpochTime]) -> dict[str, float]:
    """Return the time of a step, in milliseconds."""
    return {"ms/step": 1e3 * statistics.median(epoch.seconds for epoch in epochs) / steps}


def hold_batches(config: RunConfig, dataset: DataSet, device: torch.device) -> HeldBatches:
    """Return the batches of the first epoch, on the device."""
    data = dataset.split("train", "data.train_split")
    plan = train_plan(config.data, data, seed=config.seed, epoch=0)
    rule = load_rule(config.data, training=True, pin_memory=False, processes=1)
    # Copy each batch: a loader may reuse its memory for later batches.
    loader = BatchLoader(data, plan, Share(), rule)
    return HeldBatches(plan, [copy(batch).to(device) for batch in loader])


def copy(batch: Batch) -> Batch:
    """Return a deep copy of a batch."""
    return replace(batch, **{name: getattr(batch, name).clone() for name in TENSORS})


def main() -> None:
    """Run the benchmark."""
    run_benchmark(__doc__, add_arguments, run)


if __name__ == "__main__":
    main()
