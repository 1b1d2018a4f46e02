"""``rsdl train`` except for its loader: the batches lie on the device already.

All parts of a run are active: the recorder, log rows, the ledger, the meters. Images are flipped,
rotated and normalised on the device, as by default; checkpoints are not written, as in the other
trainers.
"""

import tempfile
from contextlib import ExitStack
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import numpy as np
import pytorch_lightning as pl

from benchmarks.harness.tiny_dataset import write_tiny_dataset
from benchmarks.harness.training_fixture import HeldBatches, open_training
from benchmarks.trainer.peers.plain_lightning import Timed
from benchmarks.trainer.step_task import (
    LEARNING_RATE,
    SMOOTHING,
    WEIGHT_DECAY,
    Batches,
    Clock,
    StepTask,
)
from rsdl.config.load import validate
from rsdl.config.trainer import Compile
from rsdl.core.rng import key_of, uniforms
from rsdl.data.batch_buffer import BatchBuffer
from rsdl.data.loader import NUM_UNIFORMS
from rsdl.data.plan import SamplingPlan, Share
from rsdl.data.targets import KINDS

MOST_TURNS = 1000


def hold_batches(plan: SamplingPlan, batches: Batches) -> HeldBatches:
    """Return the plan's batches with images and targets that lie on the device, repeated."""
    held = []
    for planned, (images, targets) in zip(plan.batches(Share()), cycle(batches), strict=False):
        buffer = BatchBuffer(
            planned=planned,
            images=images,
            pixels=np.empty(0, np.uint8),
            target=KINDS["class_index"],
            targets=np.zeros(len(planned.samples), np.int64),
            windows=np.zeros((len(planned.samples), 4), np.int32),
            sizes=np.zeros((len(planned.samples), 2), np.int32),
            valid=planned.valid,
            crop_uniforms=np.empty((0, 0)),
            parts_left=0,
        )
        numbers = uniforms(key_of(0, "augment"), planned.draws, NUM_UNIFORMS)
        held.append(replace(buffer.to_batch(numbers), targets=targets))
    return HeldBatches(plan, held)


class RsdlTrain:
    """A session of ``rsdl train``; each turn is an epoch.

    Args:
        task: The task.
        batches: Stored pixels, and targets.
        compiled: Value of ``trainer.compile``.
    """

    def __init__(self, task: StepTask, batches: Batches, *, compiled: Compile = "off") -> None:
        self._stack = ExitStack()
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        config = validate(
            {
                "name": "step",
                "data": {
                    "url": write_tiny_dataset(folder / "tiny", task.num_steps * task.batch_size),
                    "image_size": task.image_size,
                    "batch_size": task.batch_size,
                },
                "model": {"name": task.model},
                "task": {"label_smoothing": SMOOTHING},
                "optim": {"lr": LEARNING_RATE, "weight_decay": WEIGHT_DECAY},
                "trainer": {
                    "accelerator": "gpu" if task.half else "cpu",
                    "devices": 1,
                    "max_epochs": MOST_TURNS,
                    "compile": compiled,
                },
            }
        )
        self.session = self._stack.enter_context(open_training(config, checkpoints=False))
        data = self.session.data

        def train_dataloader() -> HeldBatches:
            loader = hold_batches(data.plan(self.session.trainer.current_epoch), batches)
            data.train_loader = loader  # type: ignore[assignment]
            return loader

        data.train_dataloader = train_dataloader  # type: ignore[method-assign,assignment]
        self.session.trainer.limit_val_batches = 0

    def run(self, clock: Clock) -> None:
        """Train one epoch."""
        trainer = self.session.trainer
        callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        timed = [Timed(clock), OneEpoch()]
        callbacks.extend(timed)
        try:
            trainer.fit(self.session.module, datamodule=self.session.data)
        finally:
            del callbacks[-len(timed) :]

    def close(self) -> None:
        """Release all resources."""
        self._stack.close()
        del self.session


class OneEpoch(pl.Callback):
    """Ends the training after each epoch."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the training."""
        trainer.should_stop = True
