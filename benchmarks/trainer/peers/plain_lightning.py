"""A plain LightningModule, written as in Lightning's documentation.

Follows https://lightning.ai/docs/pytorch/stable/starter/introduction.html, with
``precision="bf16-mixed"`` on a GPU. Its images are normalised on the host, by the loader's workers,
so the device does no preprocessing.
"""

import tempfile
import warnings
from collections.abc import Iterator
from itertools import repeat
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.trainer.step_task import (
    LEARNING_RATE,
    MEAN,
    SMOOTHING,
    STD,
    WEIGHT_DECAY,
    Batches,
    Clock,
    StepTask,
    create_network,
)


class PlainModule(pl.LightningModule):
    """A classifier."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss."""
        x, y = batch
        loss = F.cross_entropy(self.model(x), y, label_smoothing=SMOOTHING)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> dict[str, Any]:  # type: ignore[override]
        """Return AdamW with a cosine schedule."""
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=300_000)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


class HeldBatch:
    """Replaces a DataLoader: repeats one batch that lies on the device.

    Args:
        batch: Images and targets.
        length: Batches in an epoch.
    """

    def __init__(self, batch: tuple[Tensor, Tensor], length: int) -> None:
        self._batch = batch
        self._length = length

    def __len__(self) -> int:
        """Return the number of batches."""
        return self._length

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batch repeatedly."""
        return repeat(self._batch, self._length)


class PlainLightning:
    """A Trainer with its defaults, except for progress bar and checkpoints.

    Args:
        task: The task.
        batches: Stored pixels, and targets.
    """

    def __init__(self, task: StepTask, batches: Batches) -> None:
        self.task = task
        self.module = PlainModule(create_network(task.model, task.image_size))
        images, targets = batches[0]
        normal = (images.permute(0, 3, 1, 2).float() - MEAN) / STD
        self.batch = (normal.contiguous(), targets)

    def run(self, clock: Clock) -> None:
        """Train one epoch."""
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer = pl.Trainer(
                accelerator="gpu" if self.task.half else "cpu",
                devices=1,
                precision="bf16-mixed" if self.task.half else "32-true",
                max_epochs=1,
                default_root_dir=folder,
                callbacks=[Timed(clock)],
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            trainer.fit(self.module, HeldBatch(self.batch, self.task.num_steps))

    def close(self) -> None:
        """Release all resources."""
        self.__dict__.clear()


class Timed(pl.Callback):
    """Notifies a clock of the steps of a Lightning trainer.

    Args:
        clock: The clock.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def on_train_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Record the start of the step."""
        self._clock.tick()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record that the last step was launched."""
        self._clock.stop()
