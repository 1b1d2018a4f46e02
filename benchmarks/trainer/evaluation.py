"""Speed of validation and evaluation, compared with a bare loop over batches on the device.

For each of the nine networks, ``rsdl train`` validates after its first epoch (every image is read
and decoded) and after its last (from the decoded cache), the weights are tested as
``rsdl evaluate`` does, and tested again with ``--tta``. After each, the bare loop has its turn:
``torch.inference_mode`` over the same images, which lie on the device, normalised there, through
the same network in the same precision. Every validation reads all samples, computes all metrics and
may be stopped at any batch. It is timed from the start of Lightning's loop, before the first image
is requested, to its last metric; weights and checkpoints are read and written outside of that. TTA
makes 8 views of each image, so the bound of its images per second is an eighth of the loop's.

Peak memory is that of the process, or the peak allocated by PyTorch on a GPU, during each; all of
them include the optimizer's state, none the gradients.

    python -m benchmarks.trainer.evaluation [--models resnet50 vit_base] [--accelerator cpu]
"""

import argparse
import gc
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from benchmarks.harness.machine import describe_versions
from benchmarks.harness.measure import (
    Aim,
    Row,
    Table,
    build_result,
    pair_ratio,
    run_benchmark,
    tell_progress,
)
from benchmarks.harness.tiles import MIN_IMAGES, pack_tiles
from benchmarks.harness.training_fixture import (
    Clock,
    Spent,
    add_session_arguments,
    open_bench_session,
    trains_on_gpu,
)
from benchmarks.trainer.overhead import copy
from rsdl.config.load import validate
from rsdl.config.run import RunConfig
from rsdl.core.batch import Batch
from rsdl.train.session import Session
from rsdl.train.trainer import choose_precision

SHARE_OF_BARE = 0.97
NUM_VIEWS = 8
BARE = "bare loop"
FIRST, LAST = "first validation", "last validation"
EVALUATED, TTA = "rsdl evaluate", "rsdl evaluate --tta"
KINDS = (FIRST, LAST, EVALUATED, TTA)

# Training batch, and number of images validated and tested. On a GPU a validation batch is four
# training batches.
SIZES = {"cuda": (64, 4096), "cpu": (4, 12)}


@dataclass(frozen=True, slots=True)
class Pass:
    """Cost of one pass over the images.

    Attributes:
        spent: Wall time and CPU time.
        peak_mb: Peak memory during the pass.
    """

    spent: Spent
    peak_mb: float


class Gauge:
    """Time and memory from its start to :meth:`read`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        reset_peak(device)
        self._clock = Clock()

    def read(self) -> Pass:
        """Return time and peak memory since the start."""
        return Pass(self._clock.read(), read_peak(self._device) / 1e6)


class Turns(pl.Callback):
    """Measures each validation of a session, and the bare loop after it.

    Args:
        session: The session.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._device = session.trainer.strategy.root_device
        self._batches: list[Batch] = []
        self.kind = FIRST
        self.passes: dict[str, tuple[Pass, Pass]] = {}  # ours, and the bare loop's after it
        data = session.data
        # Lightning requests the loader of the first validation before it trains.
        data.val_dataloader = self._warming(data.val_dataloader)  # type: ignore[method-assign]
        trainer = session.trainer
        for loop in (trainer.fit_loop.epoch_loop.val_loop, trainer.test_loop):
            loop.run = self._starting(loop.run)  # type: ignore[method-assign]

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the pass, and run the bare loop."""
        ours = self._gauge.read()
        gauge = Gauge(self._device)
        self.loop()
        self.passes[self.kind] = (ours, gauge.read())
        self.kind = LAST

    on_test_epoch_end = on_validation_epoch_end

    def _warming(self, make: Callable[[], Any]) -> Callable[[], Any]:
        """Wrap a loader factory: first give the bare loop its batches and a warm-up turn."""

        def warm() -> Any:  # noqa: ANN401 - any loader
            if not self._batches:
                self._batches = [copy(batch).to(self._device) for batch in make()]
                self._forget()
                self._session.module.eval()
                self.loop()  # warms up for both
                self._session.module.train()
            return make()

        return warm

    def _starting(self, run: Callable[[], Any]) -> Callable[[], Any]:
        """Wrap a loop: start the clock first."""

        def start() -> Any:  # noqa: ANN401 - whatever the loop returns
            self._gauge = Gauge(self._device)
            return run()

        return start

    def _forget(self) -> None:
        """Drop the decoded cache, so that the first validation decodes."""
        config, storage = self._session.config, self._session.config.storage
        self._session.data.data = type(self._session.data.data)(
            config.data.model_copy(
                update={
                    "cache": config.data.cache.model_copy(  # type: ignore[union-attr]
                        update={"folder": f"{config.data.cache.folder}-again"}  # type: ignore[union-attr]
                    )
                }
            ),
            storage,
        )

    def loop(self) -> None:
        """Run only the network over the batches."""
        module = self._session.module
        half = choose_precision(self._session.config.trainer) == "bf16-mixed"
        with torch.inference_mode():
            for batch in self._batches:
                images, _ = module.augment(batch, training=False)
                with torch.autocast(self._device.type, torch.bfloat16, enabled=half):
                    module(images)


def reset_peak(device: torch.device) -> None:
    """Reset the peak memory counter."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")


def read_peak(device: torch.device) -> int:
    """Return the peak memory since :func:`reset_peak`, in bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's own options."""
    add_session_arguments(parser)
    parser.add_argument("--images", type=int, help="to validate (on a GPU 4096, else 12)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure; return the result."""
    on_gpu = trains_on_gpu(options)
    batch, images = SIZES["cuda" if on_gpu else "cpu"]
    batch, images = options.batch_size or batch, options.images or images
    rounds = min(options.rounds, 2) if options.quick else options.rounds
    tables = []
    with tempfile.TemporaryDirectory() as temporary:
        work = (options.work or Path(temporary)).resolve()
        url = pack_tiles(work, options.tile_size, {"train": max(batch, MIN_IMAGES), "val": images})
        for model in options.models:
            found = []
            for number in range(rounds):
                tell_progress(f"{model}: round {number + 1} of {rounds}")
                cache = {"folder": str(Path(temporary) / f"{model}-{number}")}
                found.append(evaluate_in_turns(options, model, url, batch, cache))
                gc.collect()
            where = "on the GPU" if on_gpu else f"{torch.get_num_threads()} threads"
            tables += evaluation_tables(f"{model}, {images} images, {where}", images, found)
    title = f"Validation and evaluation at {options.image_size} px"
    versions = describe_versions(("rsdl-train", "torch", "pytorch-lightning", "timm"))
    return build_result("evaluation", title, tables, options=vars(options), versions=versions)


def evaluate_in_turns(
    options: argparse.Namespace, model: str, url: str, batch: int, cache: dict[str, str]
) -> dict[str, tuple[Pass, Pass]]:
    """Train two short epochs; return the cost of each pass and of the bare loop after it."""
    data = {"url": url, "image_size": options.image_size, "batch_size": batch, "cache": cache}
    config: RunConfig = validate(
        {
            "name": "evaluation",
            "data": data,
            "model": {"name": model},
            "trainer": {"accelerator": options.accelerator, "max_epochs": 2},
        }
    )
    with open_bench_session(config, checkpoints=False) as session:
        turns = Turns(session)
        trainer, module = session.trainer, session.module
        # Before the recorder, which writes the best weights.
        trainer.callbacks.insert(0, turns)  # type: ignore[attr-defined]
        trainer.fit(module, datamodule=session.data)
        session.data.evaluation_split = "val"
        for turns.kind, module.tta in ((EVALUATED, False), (TTA, True)):
            trainer.test(module, datamodule=session.data, verbose=False)
    return turns.passes


def evaluation_tables(
    title: str, num_images: int, found: Sequence[dict[str, tuple[Pass, Pass]]]
) -> list[Table]:
    """Return the tables of one network: each kind of pass compared with the bare loop after it."""
    rows, aims = [], []
    for kind in KINDS:
        views = NUM_VIEWS if kind == TTA else 1
        ours, bare = ([passes[kind][place] for passes in found] for place in (0, 1))
        rates, bounds = (
            [count * num_images / one.spent.seconds for one in passes]
            for passes, count in ((ours, views), (bare, 1))
        )
        work = pair_ratio(
            [one.spent.cpu_s / views for one in ours], [one.spent.cpu_s for one in bare]
        )
        ratio = pair_ratio(rates, bounds)
        assert ratio is not None
        assert work is not None
        facts = {
            "over the bare loop after it": ratio.median,
            "CPU time, ratio": work.median,
            "peak MB": max(one.peak_mb for one in ours),
            "peak MB of the loop": max(one.peak_mb for one in bare),
        }
        note = "views/s" if kind == TTA else ""
        rows.append(Row(kind, rates, note=note, facts=facts))
        aims.append(Aim(f"{kind}: speed over that of the bare loop", ratio.median, SHARE_OF_BARE))
    loops = [
        sum(num_images / passes[kind][1].spent.seconds for kind in KINDS) / len(KINDS)
        for passes in found
    ]
    table = Table(title, "images/s", BARE, [Row(BARE, loops), *rows])
    return [replace(table, aims=aims)]


def main() -> None:
    """Run the benchmark."""
    run_benchmark(__doc__, add_arguments, run)


if __name__ == "__main__":
    main()
