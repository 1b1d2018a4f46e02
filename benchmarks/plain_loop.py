"""Training time per image: rsdl against a plain PyTorch loop, in the same run.

The plain loop has every advantage of simplicity: images are decoded and resized once and held in
memory, batches are slices, there is no validation, no record and no checkpoint. rsdl decodes each
JPEG from its shard every epoch, crops at random, keeps the ledger and may be killed at any step.
Both train the same network on the same data set; epochs alternate, so that a noisy machine is noisy
for both, and the first of each is not counted.

    python benchmarks/plain_loop.py DATASET_URL [--model resnet18] [--image-size 96] [--epochs 4]
"""

import argparse
import statistics
import tempfile
import time

import numpy as np
import timm
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor

from rsdl.commands.session import open_session
from rsdl.config.load import validate
from rsdl.config.run import RunConfig
from rsdl.data.crop import CropRule
from rsdl.data.dataset import DataSet, eval_plan
from rsdl.data.loader import BatchLoader, LoadRule
from rsdl.data.plan import Share
from rsdl.storage.connect import connect
from rsdl.train.preempt import StopRequest
from rsdl.train.record import RunFolder


def load_images(dataset: DataSet, image_size: int) -> tuple[Tensor, Tensor]:
    """Return the whole train split, ``[N, 3, S, S]`` uint8, and its labels ``[N]``."""
    data = dataset.split("train", "data.train_split")
    loader = BatchLoader(
        data, eval_plan(dataset.config, data), Share(), LoadRule(image_size, CropRule())
    )
    batches = list(loader)
    images = torch.cat([batch.images for batch in batches]).permute(0, 3, 1, 2).contiguous()
    return images, torch.cat([batch.targets for batch in batches])


def build_plain_loop(dataset: DataSet, config: RunConfig, num_steps: int) -> "PlainLoop":
    """Return the reference, ready to run epochs."""
    images, labels = load_images(dataset, config.data.image_size)
    network = timm.create_model(config.model.name, num_classes=len(dataset.manifest.classes))
    return PlainLoop(network, images, labels, config.data.batch_size, num_steps)


class PlainLoop:
    """What people write first: AdamW, one cycle, flips and quarter turns."""

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

    def run_epoch(self) -> float:
        """Train one epoch; return seconds per image."""
        order = torch.randperm(len(self.images))
        num_batches = len(order) // self.batch_size
        begin = time.perf_counter()
        for number in range(num_batches):
            rows = order[number * self.batch_size : (number + 1) * self.batch_size]
            batch = self.images[rows]
            if np.random.rand() < 0.5:
                batch = batch.flip(3)
            batch = torch.rot90(batch, int(np.random.randint(4)), (2, 3))
            batch = (batch.float() - self.mean) / self.std
            loss = F.cross_entropy(self.network(batch), self.labels[rows], label_smoothing=0.1)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
        return (time.perf_counter() - begin) / (num_batches * self.batch_size)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=4)
    options = parser.parse_args()
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
            "trainer": {"accelerator": "cpu", "max_epochs": options.epochs},
        }
    )
    dataset = DataSet(config.data)
    plain, ours = measure(config, dataset)
    print(f"{options.model} at {options.image_size} px, batch {options.batch_size}, "
          f"{torch.get_num_threads()} threads, medians of {len(ours)} epochs")  # fmt: skip
    print(f"plain loop  {1e3 * statistics.median(plain):7.2f} ms/image")
    print(f"rsdl train  {1e3 * statistics.median(ours):7.2f} ms/image")
    pairs = [a / b for a, b in zip(ours, plain, strict=True)]
    print(f"rsdl / plain {statistics.median(pairs):.3f}  ({min(pairs):.3f} to {max(pairs):.3f})")


def measure(config: RunConfig, dataset: DataSet) -> tuple[list[float], list[float]]:
    """Return seconds per image of each counted epoch, plain and ours, taken in turn."""
    import pytorch_lightning as pl

    epochs = config.trainer.max_epochs
    steps = len(dataset.split("train", "train").index) // config.data.batch_size
    reference = build_plain_loop(dataset, config, epochs * steps)
    plain: list[float] = []
    ours: list[float] = []

    class Turns(pl.Callback):
        """Times our epochs, and runs the reference between them."""

        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            self.begin = time.perf_counter()

        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            ours.append((time.perf_counter() - self.begin) / (steps * config.data.batch_size))
            plain.append(reference.run_epoch())

    with tempfile.TemporaryDirectory() as output:
        folder = RunFolder(connect(output))
        session = open_session(config, folder, None, StopRequest(), Console(quiet=True))
        session.trainer.callbacks.append(Turns())  # type: ignore[attr-defined]
        session.trainer.limit_val_batches = 0
        session.trainer.fit(session.module, datamodule=session.data)
    return plain[1:], ours[1:]


if __name__ == "__main__":
    main()
