"""rsdl: the batches of its data module as the training step gets them, normalised its way."""

import itertools
import shutil
from typing import Any

import pytorch_lightning as pl
import torch

from benchmarks.harness.task import Counter, Task, Workload
from rsdl.config.data import AugmentConfig, DataConfig
from rsdl.data.augment import Augment
from rsdl.data.datamodule import DataModule
from rsdl.data.dataset import DataSet

CACHE = "decoded"


class Epochs:
    """A data module with a trainer that counts epochs, as Lightning's loop does."""

    def __init__(self, config: DataConfig, seed: int) -> None:
        self.trainer = pl.Trainer(
            accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        self.module = DataModule(DataSet(config), seed=seed)
        self.module.trainer = self.trainer
        self.manifest = self.module.data.manifest
        self.epoch = 0

    def __iter__(self) -> Any:  # noqa: ANN401 - an iterator of batches
        """Return the batches of the next epoch."""
        progress = self.trainer.fit_loop.epoch_progress
        progress.current.processed = self.epoch  # type: ignore[attr-defined]
        self.epoch += 1
        return iter(self.module.train_dataloader())


def build(task: Task, *, decoded: bool = False, first: bool = False) -> Workload:
    """Return the loader.

    Args:
        task: The task.
        decoded: Whether to cache decoded pixels from the first epoch on.
        first: Whether every turn is such a first epoch.
    """
    # Each variant has its own folder, since all prepare concurrently.
    root = task.folder(f"{CACHE}-{task.delivery}-first={first}-decoded={decoded}")
    shutil.rmtree(root)
    turns = itertools.count()

    def open_epochs() -> Epochs:
        # A new folder: a process must not remove a cache that it has opened.
        cache = str(root / str(next(turns)))
        return Epochs(build_config(task, decoded=decoded, cache=cache), task.seed)

    epochs = open_epochs()
    augment = Augment(
        AugmentConfig(flip=False, rotate90=False),
        epochs.manifest.mean,
        epochs.manifest.std,
        epochs.manifest.dtype,
    )

    def run_epoch(take: Counter) -> None:
        for batch in epochs:
            if task.delivery == "float32":
                with torch.inference_mode():
                    images, _ = augment(batch, training=True)
            else:
                # [B, H, W, C] -> [B, C, H, W], the same memory
                images = batch.images.permute(0, 3, 1, 2)
            take(images, batch.targets)

    def reset() -> None:
        nonlocal epochs
        epochs = open_epochs()

    if decoded and not first:
        run_epoch(Counter(task))
    return Workload(run_epoch, reset if first else None, note="threads")


def build_config(task: Task, *, decoded: bool, cache: str) -> DataConfig:
    """Return the data config of the task."""
    fields = {
        "url": task.shards,
        "batch_size": task.batch_size,
        "image_size": task.image_size,
        "num_workers": task.workers,
        "crop_scale": task.scale,
        "crop_ratio": task.ratio,
        "tail": "drop",
        "cache": {"folder": cache},
        "decoded_cache": "auto" if decoded else "off",
        "resident": "off",
    }
    return DataConfig.model_validate(fields)
