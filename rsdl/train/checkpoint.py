"""Checkpoints: what is in one, when one is written, and reading one without trusting it.

A checkpoint is always taken between two optimizer steps and says where in the global order the run
is: (epoch, samples consumed). Lightning's own loop counters are not restored from it but set from
that position, so that it does not matter how many devices or accumulation steps the run had.
"""

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.checkpoint_io import CheckpointIO
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from rsdl.core.errors import DataError, PreemptedError, StorageError
from rsdl.core.world import any_rank, world_size
from rsdl.storage.connect import join
from rsdl.storage.store import Store
from rsdl.train.preempt import StopRequest

LAST = "checkpoints/last.ckpt"
BEST = "checkpoints/best.ckpt"
STATE = "rsdl"

# Ranks compare notes every so many steps; alone, a process looks after each.
STEPS_BETWEEN_NOTES = 8


class CheckpointConfig(BaseModel):
    """When checkpoints are written and how many stay."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    every_minutes: float = Field(10.0, gt=0, description="Also within an epoch.")
    keep: int = Field(1, ge=1, description="How many of the last ones stay, last.ckpt included.")


@dataclass(frozen=True, slots=True)
class Position:
    """Where a run is.

    Attributes:
        epoch: Epoch, from 0.
        consumed: Samples of its global order that are behind us.
        step: Optimizer steps made in all.
        validate: Whether the epoch before has still to be validated.
    """

    epoch: int = 0
    consumed: int = 0
    step: int = 0
    validate: bool = False


def read_checkpoint(path: Path, where: str) -> dict[str, Any]:
    """Load a checkpoint on the CPU, executing nothing that is in it.

    Raises:
        DataError: If it is damaged or holds more than tensors and plain values.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        reason = "is not a checkpoint that can be loaded safely (damaged, or not plain tensors)"
        raise DataError(where, reason, "restore it, or start again with --restart") from error
    if not isinstance(content, dict) or "state_dict" not in content:
        raise DataError(where, "is no checkpoint of rsdl", "name a run or its checkpoint")
    return content


def load_weights(module: nn.Module, checkpoint: dict[str, Any], where: str) -> None:
    """Put a checkpoint's weights into a module.

    Raises:
        DataError: If they are of another network.
    """
    try:
        module.load_state_dict(checkpoint["state_dict"])
    except (RuntimeError, TypeError, AttributeError) as error:
        first = str(error).splitlines()[-1].strip()[:200]
        raise DataError(
            where, f"does not fit the network of the config: {first}", "take the run's own"
        ) from error


def state_of(checkpoint: dict[str, Any], where: str) -> dict[str, Any]:
    """Return rsdl's own part of a checkpoint: position and counts."""
    state = checkpoint.get(STATE)
    if not isinstance(state, dict) or "position" not in state:
        raise DataError(where, "holds no position in the data", "resume from last.ckpt of a run")
    return state


class StoreCheckpointIO(CheckpointIO):
    """Lightning's checkpoints, by name, in a store: atomic to write, safe to read.

    Args:
        store: The run's folder.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any | None = None,  # noqa: ANN401 - Lightning's signature
    ) -> None:
        """Write a checkpoint; the one before stays until this one is complete."""
        # Set by the position; see the module's docstring.
        checkpoint.pop("loops", None)
        with self._store.create(str(path)) as part:
            try:
                torch.save(checkpoint, part)
            except RuntimeError as error:
                free = shutil.disk_usage(part.parent).free
                # torch still holds the file: deleting alone would leave no room for the record.
                os.truncate(part, 0)
                raise StorageError(
                    join(self._store.url, str(path)),
                    f"the checkpoint cannot be written ({free / 1e6:.0f} MB free on the disk)",
                    "free some space and run the same command again",
                ) from error

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any | None = None,  # noqa: ANN401 - Lightning's signature
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read a checkpoint, always without executing anything in it."""
        return read_checkpoint(self._store.local(str(path)), join(self._store.url, str(path)))

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint."""
        self._store.delete(str(path))


class Checkpointer(pl.Callback):
    """Writes checkpoints between steps, and stops the run there when it is asked to.

    Args:
        config: When to write.
        store: The run's folder.
        stop: Whether this process was asked to stop.
    """

    def __init__(self, config: CheckpointConfig, store: Store, stop: StopRequest) -> None:
        self._config = config
        self._store = store
        self._stop = stop
        self._saved_at = time.monotonic()
        self._saved_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals back from Lightning, whose handler would talk to other ranks."""
        self._stop.install()
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals back, as above."""
        self._stop.install()

    on_test_start = on_validation_start

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Save at the end of an epoch, every so many minutes, and when asked to stop."""
        done = batch_idx + 1
        if done % trainer.accumulate_grad_batches:
            return
        is_last = done >= trainer.num_training_batches or self._is_final_step(trainer)
        step = trainer.global_step
        asked = self._ask(trainer, bool(self._stop), step)
        minutes = (time.monotonic() - self._saved_at) / 60
        if is_last or asked or self._ask(trainer, minutes >= self._config.every_minutes, step):
            self.save(trainer)
        if asked:
            raise PreemptedError("run", f"stopped by {self._stop.reason}", "run it again to go on")

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop when asked to; the state was saved before validation began."""
        if self._ask(trainer, bool(self._stop), batch_idx):
            raise PreemptedError("run", f"stopped by {self._stop.reason}", "run it again to go on")

    on_test_batch_end = on_validation_batch_end

    def save(self, trainer: pl.Trainer) -> None:
        """Write ``last.ckpt``, after setting the one before aside if more than one stays."""
        if self._config.keep > 1 and trainer.is_global_zero:
            self._keep()
        trainer.save_checkpoint(LAST)
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step

    def _keep(self) -> None:
        if self._store.size(LAST) is None:
            return
        with self._store.create(f"checkpoints/step-{self._saved_step:09d}.ckpt") as part:
            shutil.copyfile(self._store.local(LAST), part)
        names = [entry.name for entry in self._store.list("checkpoints/step-")]
        for name in names[: 1 - self._config.keep]:
            self._store.delete(name)

    @staticmethod
    def _is_final_step(trainer: pl.Trainer) -> bool:
        return 0 < trainer.max_steps <= trainer.global_step

    @staticmethod
    def _ask(trainer: pl.Trainer, flag: bool, turn: int) -> bool:
        """Return whether any rank says yes, every so many turns."""
        if world_size() == 1:
            return flag
        if turn % STEPS_BETWEEN_NOTES:
            return False
        return any_rank(flag, trainer.strategy.root_device)


def set_progress(trainer: pl.Trainer, position: Position) -> None:
    """Tell Lightning's loops where the run is."""
    fit = trainer.fit_loop
    for progress in (fit.epoch_progress.total, fit.epoch_progress.current):
        for name in ("ready", "started", "processed", "completed"):
            setattr(progress, name, position.epoch)
    loop = fit.epoch_loop
    steps = loop.automatic_optimization.optim_progress.optimizer.step.total
    steps.ready = steps.completed = position.step
    loop._batches_that_stepped = position.step
