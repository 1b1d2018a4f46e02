"""The callback that writes checkpoints between steps and stops the run there on request."""

import shutil
import time
from functools import partial
from typing import Any

import pytorch_lightning as pl

from rsdl.config.trainer import CheckpointConfig
from rsdl.core.errors import PreemptedError
from rsdl.distributed.flag_reduce import AsyncFlagReduce
from rsdl.records.run_record import LAST
from rsdl.train.checkpoint_io import KEPT_FILES
from rsdl.train.signals import StopRequest
from rsdl.train.upload_queue import UploadQueue, drain_all_ranks


class CheckpointCallback(pl.Callback):
    """Writes checkpoints between steps and stops the run there on request.

    Args:
        config: When to write.
        uploads: Queue that writes to the run's folder.
        stop: Whether this process was asked to stop.
        flag_reduce: All-reduces two flags of all ranks: a rank was asked to stop; a checkpoint is
            due. All ranks see the result at the same step.
    """

    def __init__(
        self,
        config: CheckpointConfig,
        uploads: UploadQueue,
        stop: StopRequest,
        flag_reduce: AsyncFlagReduce,
    ) -> None:
        self._config = config
        self._uploads = uploads
        self._store = uploads.store
        self._stop = stop
        self._flag_reduce = flag_reduce
        self._saved_at = time.monotonic()
        self._saved_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the timer of the checkpoint interval."""
        self._stop.begin()
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Save at the end of an epoch, every ``every_minutes``, and when asked to stop."""
        self._uploads.check()
        done = batch_idx + 1
        if done % trainer.accumulate_grad_batches:
            return
        is_last = done >= trainer.num_training_batches or self._is_final_step(trainer)
        asked, due = self._flag_reduce.read(*self._flags())
        if is_last or asked or due:
            self.save(trainer)
        self._stop_if(trainer, asked)
        self._flag_reduce.start(*self._flags())

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check for signals after every batch from now on."""
        self._stop.begin()

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop if asked to; the state was saved before validation began."""
        asked, _ = self._flag_reduce.read(*self._flags())
        self._stop_if(trainer, asked)
        self._flag_reduce.start(*self._flags())

    on_test_batch_end = on_validation_batch_end

    def save(self, trainer: pl.Trainer) -> None:
        """Write ``last.ckpt``; if more than one checkpoint is kept, first copy the previous one."""
        if self._config.keep > 1 and trainer.is_global_zero:
            name = f"{KEPT_FILES}{self._saved_step:09d}.ckpt"
            self._uploads.submit(name, partial(self._keep, name), ordered=True)
        # Only sharded weights need the group.
        trainer.save_checkpoint(LAST, storage_options=self._flag_reduce.group)
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step

    def _stop_if(self, trainer: pl.Trainer, asked: bool) -> None:
        """Stop if asked, after the uploads of all ranks: an early exit can fail other ranks."""
        if not asked:
            return
        drain_all_ranks(self._uploads, trainer.strategy.root_device)
        raise PreemptedError("run", f"stopped by {self._stop.reason}", "run it again to go on")

    def _keep(self, name: str) -> None:
        if self._store.size(LAST) is None:
            return
        with self._store.create(name) as part:
            shutil.copyfile(self._store.local(LAST), part)
        names = [entry.name for entry in self._store.list(KEPT_FILES)]
        for name in names[: 1 - self._config.keep]:
            self._store.delete(name)

    @staticmethod
    def _is_final_step(trainer: pl.Trainer) -> bool:
        return 0 < trainer.max_steps <= trainer.global_step

    def _flags(self) -> tuple[bool, bool]:
        minutes = (time.monotonic() - self._saved_at) / 60
        return bool(self._stop), minutes >= self._config.every_minutes
