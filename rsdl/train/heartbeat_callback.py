"""The callback that tells the heartbeat of each batch, and raises when another rank has failed."""

from typing import Any

import pytorch_lightning as pl

from rsdl.distributed.heartbeat import Heartbeat
from rsdl.train.lightning_private import ignore_sigterm


class HeartbeatCallback(pl.Callback):
    """Notes each batch in the heartbeat; stands first in the list of callbacks.

    Args:
        heartbeat: What keeps an eye on the other ranks.
    """

    def __init__(self, heartbeat: Heartbeat) -> None:
        self._heartbeat = heartbeat

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the agreement on signals to the checkpoint callback."""
        ignore_sigterm(trainer)

    def on_train_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,  # noqa: ANN401 - Lightning's signature
        batch_idx: int,
    ) -> None:
        """Note the step."""
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
        """Note the batch."""
        self._heartbeat.note(trainer.global_step, "validating")
        self._heartbeat.check()

    on_test_batch_start = on_validation_batch_start
