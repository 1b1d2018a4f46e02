"""Training time per image of rsdl and of a plain PyTorch loop, in the same run.

The plain loop has every advantage of simplicity: images are decoded and resized once and held in
memory, batches are slices, there is no validation, no record and no checkpoint. rsdl decodes each
JPEG from its shard every epoch, crops at random, keeps the ledger and may be killed at any step.
Both train the same network on the same data set; epochs alternate, so that other load affects both
alike, and the first of each is not counted.

    python -m benchmarks.trainer.plain_loop DATASET_URL [--model resnet18] [--image-size 96]
"""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness.machine import describe_versions
from benchmarks.harness.measure import Row, Table, build_result, run_benchmark
from benchmarks.harness.training_fixture import Clock, Spent, open_bench_session
from rsdl.config.load import validate
from rsdl.config.run import RunConfig
from rsdl.data.crop import CropRule
from rsdl.data.dataset import DataSet, eval_plan
from rsdl.data.loader import BatchLoader, LoadRule
from rsdl.data.plan import Share
from rsdl.train.session import Session


def load_images(dataset: DataSet, image_size: int | tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the whole train split, ``[N, 3, S, S]`` uint8, and its labels ``[N]``."""
    data = dataset.split("train", "data.train_split")
    loader = BatchLoader(
        data, eval_plan(dataset.config, data), Share(), LoadRule(image_size, CropRule())
    )
    batches = list(loader)
    images = torch.cat([batch.images for batch in batches]).permute(0, 3, 1, 2).contiguous()
    return images, torch.cat([batch.targets for batch in batches])


def build_plain_loop(dataset: DataSet, config: RunConfig, num_steps: int) -> "PlainLoop":
    """Return the plain loop, ready to run epochs."""
    images, labels = load_images(dataset, config.data.image_size)
    network = timm.create_model(config.model.name, num_classes=len(dataset.manifest.classes))
    return PlainLoop(network, images, labels, config.data.batch_size, num_steps)


class PlainLoop:
    """A typical first training loop: AdamW, one cycle, flips and quarter turns."""

    def __init__(
        self,
        network: torch.nn.Module,
        images: Tensor,
        labels: Tensor,
        batch_size: int,
        num_steps: int,
    ) -> None:
        self.network = network.train()
        self.images, self.labels, self.batch_size = images, labels, batch_size
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.05)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, max_lr=2e-3, total_steps=num_steps + 1
        )
        pixels = images.float()
        self.mean = pixels.mean((0, 2, 3))[None, :, None, None]
        self.std = pixels.std((0, 2, 3))[None, :, None, None]

    def run_epoch(self) -> None:
        """Train one epoch."""
        order = torch.randperm(len(self.images))
        num_batches = len(order) // self.batch_size
        for number in range(num_batches):
            rows = order[number * self.batch_size : (number + 1) * self.batch_size]
            batch = self.images[rows]
            if np.random.rand() < 0.5:
                batch = batch.flip(3)
            batch = torch.rot90(batch, int(np.random.randint(4)), (2, 3))
            batch = (batch.float() - self.mean) / self.std
            loss = F.cross_entropy(self.network(batch), self.labels[rows], label_smoothing=0.1)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.schedule.step()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's own options."""
    parser.add_argument("url", help="packed data set, of 3 bands")
    parser.add_argument("--model", default="resnet18", help="network (%(default)s)")
    parser.add_argument("--image-size", type=int, default=96, help="px (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=32, help="images (%(default)s)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure; return the result."""
    config = validate(
        {
            "name": "plain-loop",
            "data": {
                "url": options.url,
                "image_size": options.image_size,
                "batch_size": options.batch_size,
            },
            "model": {"name": options.model},
            "task": {"label_smoothing": 0.1},
            # The first epoch of each is not counted.
            "trainer": {"accelerator": "cpu", "max_epochs": 1 + options.rounds},
        }
    )
    dataset = DataSet(config.data)
    steps = len(dataset.split("train", "train").index) // options.batch_size
    reference = build_plain_loop(dataset, config, config.trainer.max_epochs * steps)
    num_images = steps * options.batch_size
    spent = take_epochs(config, reference.run_epoch)
    plain, ours = ([epoch.seconds / num_images for epoch in epochs] for epochs in spent)
    rows = [
        Row("plain loop", [1e3 * value for value in plain], "one batch after another from memory"),
        Row("rsdl train", [1e3 * value for value in ours], "from shards, without validation"),
    ]
    title = f"Training {options.model} at {options.image_size} px: rsdl beside a plain PyTorch loop"
    threads = f"batch {options.batch_size}, {torch.get_num_threads()} threads"
    table = Table(f"Epochs in turn, {threads}", "ms/image", "plain loop", rows)
    versions = describe_versions(("rsdl-train", "torch", "pytorch-lightning", "timm"))
    return build_result("plain_loop", title, [table], options=vars(options), versions=versions)


def take_epochs(
    config: RunConfig,
    reference: Callable[[], None],
    prepare: Callable[[Session], None] = lambda session: None,
) -> tuple[list[Spent], list[Spent]]:
    """Train without validation, and let a reference train an epoch after each of ours.

    Args:
        config: The run; the first epoch of each side is not counted.
        reference: Trains one epoch.
        prepare: Called with the session before the training begins.

    Returns:
        Cost of each counted epoch, of the reference and of ours.
    """
    import pytorch_lightning as pl

    theirs: list[Spent] = []
    ours: list[Spent] = []

    class Turns(pl.Callback):
        """Times our epochs, and runs the reference between them."""

        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            self.clock = Clock()

        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            ours.append(self.clock.read())
            clock = Clock()
            reference()
            theirs.append(clock.read())

    with open_bench_session(config) as session:
        session.trainer.callbacks.append(Turns())  # type: ignore[attr-defined]
        session.trainer.limit_val_batches = 0
        prepare(session)
        session.trainer.fit(session.module, datamodule=session.data)
    return theirs[1:], ours[1:]


def main() -> None:
    """Run the benchmark."""
    run_benchmark(__doc__, add_arguments, run)


if __name__ == "__main__":
    main()
