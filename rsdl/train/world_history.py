"""The callback that records on how many devices a run trained, and what each change cost."""

import time
from datetime import datetime
from typing import Any

import pytorch_lightning as pl
import torch.distributed as dist

from rsdl.distributed.beat import Progress, find_progress
from rsdl.distributed.rendezvous import find_rendezvous
from rsdl.records.run_record import RunRecord, World
from rsdl.train.ranks import Ranks
from rsdl.train.recorder import Recorder


def find_reached(record: RunRecord, ranks: Ranks) -> Progress:
    """Return how far a run has come that is to be resumed.

    The store of an elastic run knows the last step that any rank began. The record is up to 20
    seconds older.
    """
    written = datetime.fromisoformat(record.updated_at).timestamp()
    recorded = Progress(record.optimizer_steps, written)
    if not ranks.heartbeat.is_hosted or not record.worlds:
        return recorded
    try:
        found = find_progress(find_rendezvous(), record.worlds[-1].world_size)
    except dist.DistError:
        return recorded
    return recorded if found is None else found._replace(step=max(found.step, recorded.step))


class WorldHistory(pl.Callback):
    """Adds an entry to the record's worlds after the first step of a start.

    Args:
        recorder: Writes the record.
        reached: How far the run had come; ``None`` for a new run.
        steps_per_epoch: Optimizer steps of an epoch.
        num_planned: Samples of an epoch.
    """

    def __init__(
        self, recorder: Recorder, reached: Progress | None, steps_per_epoch: int, num_planned: int
    ) -> None:
        self._recorder = recorder
        self._reached = reached
        self._steps_per_epoch, self._num_planned = steps_per_epoch, num_planned
        self._begun_at: int | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember where this start begins."""
        self._begun_at = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Add the entry after the first step."""
        if self._begun_at is None or trainer.global_step == self._begun_at:
            return
        begun, self._begun_at = self._begun_at, None
        record, reached = self._recorder.record, self._reached
        redone, idle_s = 0, 0.0
        if reached is not None:
            redone = max(self._count(reached.step) - self._count(begun), 0)
            idle_s = round(time.time() - reached.at, 1)
        entry = World(
            world_size=trainer.world_size,
            accumulate=trainer.accumulate_grad_batches,
            step=begun,
            idle_s=idle_s,
            samples_redone=redone,
        )
        record.worlds = [*record.worlds, entry]
        self._recorder.write(trainer)

    def _count(self, step: int) -> int:
        """Return the samples of the first steps."""
        epochs, rest = divmod(step, self._steps_per_epoch)
        within = min(rest * self._recorder.record.global_batch, self._num_planned)
        return epochs * self._num_planned + within
