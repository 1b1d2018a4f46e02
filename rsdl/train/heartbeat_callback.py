"""The callback that reports each batch to the heartbeat and raises if another rank failed."""

from typing import Any

import pytorch_lightning as pl

from rsdl.distributed.heartbeat import Heartbeat
from rsdl.train.lightning_private import ignore_sigterm


class HeartbeatCallback(pl.Callback):
    """Reports each batch to the heartbeat; must be the first callback.

    Args:
        heartbeat: Monitors the other ranks.
    """

    def __init__(self, heartbeat: Heartbeat) -> None:
        self._heartbeat = heartbeat

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Disable Lightning's SIGTERM broadcast; the checkpoint callback handles signals."""
        ignore_sigterm(trainer)

    def on_train_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,  # noqa: ANN401 - Lightning's signature
        batch_idx: int,
    ) -> None:
        """Report the step and check the other ranks."""
        self._heartbeat.note(trainer.global_step, "training")
        self._heartbeat.check()

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,  # noqa: ANN401 - Lightning's signature
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Report the batch and check the other ranks."""
        self._heartbeat.note(trainer.global_step, "validating")
        self._heartbeat.check()

    on_test_batch_start = on_validation_batch_start
