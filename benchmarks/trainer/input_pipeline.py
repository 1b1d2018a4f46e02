"""Cost of the input pipeline: each of the nine networks trained from shards and on one batch.

``rsdl train`` with all its parts (Lightning, augmentation, optimizer, record, ledger, ready to be
killed at any step) trains on packed JPEGs, an epoch at a time, with one of these inputs:

- one batch on the device, repeated: nothing is loaded, so it is the bound;
- from shards, first epoch: every image is read, decoded and cropped, and its pixels are cached;
- from shards, decoded cache: every image is cropped from the pixels cached by an earlier epoch;
- from shards, decoded on the device: every image is read, and decoded and cropped there;
- resident on the device: every image is cropped on the device, which holds the decoded split.

All inputs share the process, network, optimizer and number of steps, and every image is augmented.
An epoch is timed from the request for its loader to the end of its last step. There is no
validation, and no checkpoint is written: both would cost the same for all. Shards are in the page
cache.

On a CPU the loader shares the cores with the network: its CPU time is the least that the input can
cost, and is shown beside the ratio. On a GPU it has the cores to itself.

    python -m benchmarks.trainer.input_pipeline [--models resnet50 vit_base] [--accelerator cpu]
    python -m benchmarks.trainer.input_pipeline --task segmentation     # or detection
"""

import argparse
import gc
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from benchmarks.harness.imagery import MIN_IMAGES, pack_tiles
from benchmarks.harness.machine import describe_versions
from benchmarks.harness.measure import (
    Row,
    Table,
    Target,
    build_result,
    pair_ratio,
    run_benchmark,
    show_progress,
)
from benchmarks.harness.training_fixture import (
    Clock,
    EpochTime,
    HeldBatches,
    add_training_arguments,
    open_training,
    trains_on_gpu,
)
from benchmarks.trainer.overhead import hold_batches
from rsdl.config.load import validate
from rsdl.config.run import RunConfig
from rsdl.config.task import TASKS
from rsdl.core.batch import Batch
from rsdl.data.datamodule import DataModule
from rsdl.data.dataset import DataSet
from rsdl.data.gpu.resident import ResidentLoader
from rsdl.data.loader import BatchLoader
from rsdl.train.session import Session

SHARE_OF_HELD = 0.98  # a regression threshold: measured are 0.983 to 1.02 (input_pipeline.json)
HELD = "one batch on the device"
FIRST, DECODED = "from shards, first epoch", "from shards, decoded cache"
DEVICE, RESIDENT = "from shards, decoded on the device", "resident on the device"
WAYS = (HELD, FIRST, DECODED, DEVICE, RESIDENT)
JUDGED = (FIRST, DECODED)

LOADER_SHARE = "its share, %"

# Batch and steps of an epoch: several seconds, so that its start does not decide.
SIZES = {"cuda": (64, 200), "cpu": (4, 10)}

OF_TARGET = {"class_index": "", "mask": "_masks", "objects": "_objects"}  # in names of results

Loader = BatchLoader | ResidentLoader | HeldBatches


@dataclass(frozen=True, slots=True)
class Turn:
    """Cost of an epoch.

    Attributes:
        spent: Total time.
        waited_s: Seconds in which the training waited for a batch.
        loader_cpu_s: CPU time of making the batches.
    """

    spent: EpochTime
    waited_s: float
    loader_cpu_s: float


class Meter:
    """Wraps a loader and measures how long the training waits for it.

    Args:
        loader: Any loader.
    """

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self._own_cpu_s = 0.0
        self.waited_s = 0.0

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches."""
        batches = iter(self._loader)
        while True:
            begin, work = time.perf_counter(), time.process_time()
            batch = next(batches, None)
            self.waited_s += time.perf_counter() - begin
            self._own_cpu_s += time.process_time() - work
            if batch is None:
                return
            yield batch

    @property
    def cpu_s(self) -> float:
        """CPU time of making the batches, valid after the last one."""
        threads = isinstance(self._loader, BatchLoader)
        return self._loader.cpu_s if threads else self._own_cpu_s  # type: ignore[union-attr]


class InputSwitch(pl.Callback):
    """Switches the input of a session's epochs, and records the cost of each.

    The first epoch warms up; then all inputs are interleaved, round by round, every other round in
    reverse order.

    Args:
        session: The session.
        work: Folder for decoded caches.
    """

    def __init__(self, session: Session, work: Path) -> None:
        self._session = session
        self._work = work
        self._num_cold = 0
        self._ways = ways_of(session.config.task.name)
        self.turns: dict[str, list[Turn]] = {way: [] for way in self._ways}
        self._modules = {
            DECODED: self._module("kept"),
            DEVICE: self._module("none", decode="device", decoded_cache="off"),
        }
        if RESIDENT in self._ways:
            self._modules[RESIDENT] = self._module("kept", resident="on")
        device = session.trainer.strategy.root_device
        every = hold_batches(session.config, session.data.data, device)
        first = every.batches[0]
        # The ledger must balance, so each batch keeps its own sample counts.
        batches = [replace(first, counts=batch.counts) for batch in every.batches]
        self._held = HeldBatches(every.plan, batches)
        for module in self._modules.values():  # decode before the measurement
            for _ in module.train_dataloader():
                pass
        session.data.train_dataloader = self._open  # type: ignore[method-assign,assignment]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the cost of the epoch."""
        spent = self._clock.read()
        if trainer.current_epoch:
            turn = Turn(spent, self._meter.waited_s, self._meter.cpu_s)
            self.turns[way_of(trainer.current_epoch, self._ways)].append(turn)

    def _open(self) -> Meter:
        """Return the loader of the current epoch."""
        way = way_of(self._session.trainer.current_epoch, self._ways)
        if way == FIRST:
            self._num_cold += 1
            self._modules[FIRST] = self._module(f"cold-{self._num_cold}")
        self._clock = Clock()
        loader = self._held if way == HELD else self._modules[way].train_dataloader()
        self._session.data.train_loader = loader  # type: ignore[assignment]
        self._meter = Meter(loader)
        return self._meter

    def _module(self, name: str, **changes: str) -> DataModule:
        """Return a data module with its decoded cache in a folder of that name."""
        config = self._session.config
        changed = config.data.model_dump() | {"cache": {"folder": str(self._work / name)}} | changes
        data = DataSet(type(config.data).model_validate(changed), config.storage)
        module = DataModule(data, seed=config.seed)
        module.trainer = self._session.trainer
        return module


def ways_of(task: str) -> tuple[str, ...]:
    """Return the inputs of a task: no device holds the masks of a split."""
    return WAYS if TASKS[task].target == "class_index" else WAYS[:-1]


def way_of(epoch: int, ways: Sequence[str] = WAYS) -> str:
    """Return the input of an epoch."""
    if not epoch:
        return HELD
    number, place = divmod(epoch - 1, len(ways))
    return ways[place] if number % 2 == 0 else ways[::-1][place]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's own options."""
    add_training_arguments(parser)
    parser.add_argument("--steps", type=int, help="in an epoch (on a GPU 200, else 10)")
    parser.add_argument(
        "--task", choices=list(TASKS), default="classification", help="(%(default)s)"
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure; return the result."""
    on_gpu = trains_on_gpu(options)
    batch, steps = SIZES["cuda" if on_gpu else "cpu"]
    batch, steps = options.batch_size or batch, options.steps or steps
    rounds = min(options.rounds, 2) if options.quick else options.rounds
    with tempfile.TemporaryDirectory() as temporary:
        work = (options.work or Path(temporary)).resolve()
        url = pack_tiles(
            work,
            options.tile_size,
            {"train": steps * batch, "val": MIN_IMAGES},
            target=TASKS[options.task].target,
        )
        fields = {"url": url, "image_size": options.image_size, "batch_size": batch}
        tables = []
        for model in options.models:
            epochs = 1 + len(ways_of(options.task)) * rounds
            show_progress(f"{model}: {epochs} epochs of {steps} steps")
            trainer = {"accelerator": options.accelerator, "max_epochs": epochs}
            config = validate(
                {
                    "name": "input-pipeline",
                    "task": {"name": options.task},
                    "data": fields,
                    "model": {"name": model},
                    "trainer": trainer,
                }
            )
            turns = train_in_turns(config, Path(temporary) / model)
            where = "on the GPU" if on_gpu else f"{torch.get_num_threads()} threads"
            title = f"{model}, batches of {batch}, {steps} steps an epoch, {where}"
            tables.append(pipeline_table(title, steps * batch, turns, shares_cores=not on_gpu))
            gc.collect()  # a session has reference cycles, and the next network needs the memory
    title = f"Training from shards: {options.tile_size} px JPEGs to {options.image_size} px"
    versions = describe_versions(("rsdl-train", "torch", "pytorch-lightning", "timm"))
    name = "input_pipeline" + OF_TARGET[TASKS[options.task].target]
    return build_result(name, title, tables, options=vars(options), versions=versions)


def train_in_turns(config: RunConfig, work: Path) -> dict[str, list[Turn]]:
    """Train; return the cost of the epochs of each input."""
    with open_training(config, checkpoints=False) as session:
        inputs = InputSwitch(session, work)
        session.trainer.callbacks.append(inputs)  # type: ignore[attr-defined]
        session.trainer.limit_val_batches = 0
        session.trainer.fit(session.module, datamodule=session.data)
    return inputs.turns


def pipeline_table(
    title: str, num_images: int, turns: dict[str, list[Turn]], *, shares_cores: bool
) -> Table:
    """Return the table of one network.

    Args:
        title: Title of the table.
        num_images: Images of an epoch.
        turns: Cost of the epochs, by input.
        shares_cores: Whether the loader shares the cores with the network.
    """
    rows = [
        Row(way, [num_images / turn.spent.seconds for turn in epochs], facts=facts)
        for way, epochs in turns.items()
        for facts in [pipeline_facts(num_images, epochs, turns[HELD])]
    ]
    table = Table(title, "images/s", HELD, rows)
    targets = []
    for way in JUDGED:
        ratio = table.ratio(way)
        assert ratio is not None
        targets.append(
            Target(f"{way}: images/s over those of one batch", ratio.median, SHARE_OF_HELD)
        )
        if shares_cores:
            left = 1 - table.row(way).facts[LOADER_SHARE] / 100
            targets.append(
                Target(f"{way}: processor time left to the network", left, SHARE_OF_HELD)
            )
    return replace(table, targets=targets)


def pipeline_facts(
    num_images: int, epochs: Sequence[Turn], held: Sequence[Turn]
) -> dict[str, float]:
    """Return the columns beside the speed."""
    work = [turn.spent.cpu_s for turn in epochs]
    ratio = pair_ratio(work, [turn.spent.cpu_s for turn in held])
    assert ratio is not None
    loading = sum(turn.loader_cpu_s for turn in epochs)
    return {
        "CPU ms/image": 1e3 * sum(work) / num_images / len(epochs),
        "CPU time, ratio": ratio.median,
        "of it the loader's, ms": 1e3 * loading / num_images / len(epochs),
        LOADER_SHARE: 100 * loading / sum(work),
        "waited, % of the time": 100
        * sum(turn.waited_s for turn in epochs)
        / sum(turn.spent.seconds for turn in epochs),
    }


def main() -> None:
    """Run the benchmark."""
    run_benchmark(__doc__, add_arguments, run)


if __name__ == "__main__":
    main()
