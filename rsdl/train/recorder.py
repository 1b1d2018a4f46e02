"""The callback that counts samples and time of a run and writes its record."""

import math
import time
from dataclasses import asdict
from typing import Any

import pytorch_lightning as pl
import torch

from rsdl.core.batch import Batch
from rsdl.core.errors import RsdlError
from rsdl.core.sample_counts import SampleCounts
from rsdl.data.datamodule import DataModule
from rsdl.data.plan import SamplingPlan
from rsdl.distributed.rank import sum_over_ranks
from rsdl.records.run_record import BEST, LedgerEntry, RunRecord
from rsdl.train.async_scalars import AsyncScalars
from rsdl.train.checkpoint import FORMAT, STATE, Position, state_of
from rsdl.train.lightning_private import set_progress
from rsdl.train.metrics_csv import (
    Row,
    has_stalled,
    is_best,
    is_validation,
    rows_before,
    summarize_validations,
)
from rsdl.train.module import TrainingModule
from rsdl.train.run_folder import RunFolder
from rsdl.train.throughput import ThroughputMeter

SECONDS_BETWEEN_WRITES = 20.0


class Recorder(pl.Callback):
    """Keeps position, ledger, history, run record and the best checkpoint.

    It must precede the checkpoint callback, since checkpoints contain its counts.

    Args:
        folder: The run's files.
        record: The run's record.
        history: Rows of ``metrics.csv`` so far.
        log_every_steps: Optimizer steps between two rows.
        patience: Epochs without a better validation after which to stop; ``None`` never stops.
    """

    def __init__(
        self,
        folder: RunFolder,
        record: RunRecord,
        history: list[Row],
        *,
        log_every_steps: int,
        patience: int | None,
    ) -> None:
        self.folder = folder
        self.record = record
        self.history = history
        self.pace = ThroughputMeter()
        self.position = Position()
        self.last_loss: float | None = None
        self._log_every_steps = log_every_steps
        self._patience = patience
        self._counts = SampleCounts()  # this rank, since the epoch's start or the resume
        self._before = SampleCounts()  # all ranks, this epoch, before the resume
        self._used = record.work  # all ranks, whole run, before the epoch's start or the resume
        self._counted = SampleCounts()  # all ranks, from there to the last sum over ranks
        self._since = SampleCounts()  # this rank, since that sum; other ranks are not estimated
        self._paced = 0  # samples, assuming that every rank reads as many as this one
        self._logged = (0.0, 0.0)  # loss and rows of the epoch at the last row
        self._pending: tuple[Row, AsyncScalars] | None = None  # a row whose loss is not here yet
        self._resumed: dict[str, Any] | None = None
        self._written = time.monotonic()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the position and the sample counts of this epoch to the checkpoint.

        Write the record first: a resumed run does not log earlier rows again.
        """
        assert isinstance(pl_module, TrainingModule)
        self._finish_row(trainer, pl_module)
        sums = pl_module.take_losses(pl_module.read_losses(), trainer.global_step)
        checkpoint[STATE] = {
            "format": FORMAT,
            "position": asdict(self.position),
            "tally": asdict(self._total(trainer)),
            "train_sums": list(sums),
            "logged": list(self._logged),
        }
        self.write(trainer)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Resume the run at the position of the checkpoint."""
        self._resumed = state_of(checkpoint, "checkpoint")
        self.position = Position(**self._resumed["position"])
        set_progress(trainer, self.position)

    @property
    def epoch(self) -> int:
        """The epoch that was trained last, from 0."""
        return self.position.epoch - 1 if self.position.validate else self.position.epoch

    @property
    def is_validated(self) -> bool:
        """Whether the weights at this position are validated."""
        last = next((row for row in reversed(self.history) if is_validation(row)), None)
        return last is not None and int(last["step"] or 0) == self.position.step

    def take(self, position: Position, monitor: str) -> None:
        """Reset history and record to a checkpoint, since later steps will be repeated.

        Args:
            position: Position that the run resumes from.
            monitor: Metric that selects the best validation.
        """
        self.position = position
        self.history = rows_before(self.history, position.step, validated=not position.validate)
        self.record.metrics = summarize_validations(self.history, monitor)
        self.record.ledger = [e for e in self.record.ledger if e.epoch < position.epoch]
        self.record.epochs_completed = position.epoch
        self.record.optimizer_steps = position.step

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop at once if early stopping has ended the run before."""
        self._tick(trainer)
        self.pace.restart()
        trainer.should_stop = self._has_stalled(pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the counts of an epoch, or continue those of a resumed epoch."""
        assert isinstance(pl_module, TrainingModule)
        self._counts, self._before, self._logged = SampleCounts(), SampleCounts(), (0.0, 0.0)
        self._used, self._counted, self._since = self.record.work, SampleCounts(), SampleCounts()
        pl_module.train_sums.zero_()
        state, self._resumed = self._resumed, None
        if state is not None and self.position.consumed:
            self._before = SampleCounts(**state["tally"])
            self._logged = (state["logged"][0], state["logged"][1])
            # Continue the restored sums instead of adding them later: the sum of floats depends
            # on the order.
            if trainer.is_global_zero:
                sums = torch.tensor(state["train_sums"], dtype=torch.float64)
                pl_module.train_sums.copy_(sums)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Count the batch; advance the position at the end of an optimizer step."""
        assert isinstance(pl_module, TrainingModule)
        self._counts = self._counts + batch.counts
        self._since = self._since + batch.counts
        self._paced += batch.counts.delivered * trainer.world_size
        self.record.set_work(self._used + self._counted + self._since)
        done = batch_idx + 1
        if done % trainer.accumulate_grad_batches:
            return
        self.position = self._find(trainer, done)
        self._tick(trainer)
        self._finish_row(trainer, pl_module)
        if trainer.global_step % self._log_every_steps == 0 or not self.position.consumed:
            self._begin_row(trainer, pl_module)
        if not self.position.consumed:
            self._finish_row(trainer, pl_module)
            self._close_epoch(trainer, self.epoch)
        if time.monotonic() - self._written > SECONDS_BETWEEN_WRITES:
            self.write(trainer)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the validation and keep the best weights."""
        assert isinstance(pl_module, TrainingModule)
        values = {name: _finite(v) for name, v in pl_module.metrics.values().metrics.items()}
        epoch, time_s = self.epoch, round(self.record.wall_s, 1)
        row: Row = {"epoch": epoch, "step": self.position.step, "time_s": time_s}
        row |= {f"val_{name}": value for name, value in values.items()}
        self._add_row(trainer, row)
        monitor = pl_module.task.facts.primary_metric
        self.record.metrics = summarize_validations(self.history, monitor)
        if is_best(self.history, monitor):
            trainer.save_checkpoint(BEST, weights_only=True)
        self._tick(trainer)
        self.pace.restart()
        self.write(trainer)
        if self._has_stalled(pl_module):
            trainer.should_stop = True

    def write(self, trainer: pl.Trainer) -> None:
        """Write ``run.json`` and ``metrics.csv``."""
        if trainer.is_global_zero:
            self.folder.write_history(self.history)
            self.folder.write_record(self.record)
        self._written = time.monotonic()

    def _find(self, trainer: pl.Trainer, done: int) -> Position:
        """Return the position after ``done`` micro-batches of this loader."""
        loader = _data(trainer).train_loader
        assert loader is not None
        if done >= trainer.num_training_batches:
            return Position(trainer.current_epoch + 1, 0, trainer.global_step, validate=True)
        steps = done // trainer.accumulate_grad_batches
        consumed = loader.start + steps * loader.plan.global_batch
        return Position(trainer.current_epoch, consumed, trainer.global_step)

    def _total(self, trainer: pl.Trainer) -> SampleCounts:
        values = asdict(self._counts)
        sums = sum_over_ranks(list(values.values()), trainer.strategy.root_device)
        self._counted, self._since = (
            SampleCounts(**dict(zip(values, sums, strict=True))),
            SampleCounts(),
        )
        self.record.set_work(self._used + self._counted)
        return self._before + self._counted

    def _close_epoch(self, trainer: pl.Trainer, epoch: int) -> None:
        data = _data(trainer)
        assert data.train_loader is not None
        split = data.data.config.train_split
        entry = close_ledger(self._total(trainer), data.train_loader.plan, epoch, split)
        self.record.ledger = [*self.record.ledger, entry]
        self.record.epochs_completed = epoch + 1

    def _tick(self, trainer: pl.Trainer) -> None:
        loader = _data(trainer).train_loader
        passed, waited = self.pace.tick(self._paced, loader.waited_s if loader is not None else 0.0)
        self.record.add_time(passed)
        self.record.data_wait_s += waited
        self.record.optimizer_steps = self.position.step

    def _begin_row(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        """Begin the row of this step; on a GPU its loss is read one step later."""
        row: Row = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "samples": sum(entry.delivered for entry in self.record.ledger),
            "time_s": round(self.record.wall_s, 1),
            **module.learning_rates(),
            "train_loss": None,
            "images_per_s": round(self.pace.images_per_s, 1),
            "data_wait_pct": round(100 * self.pace.data_wait, 2),
        }
        reading = module.read_losses()
        self._pending = row, reading
        if not reading.is_late:
            self._finish_row(trainer, module)

    def _finish_row(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        """Log the pending row, if there is one."""
        if self._pending is None:
            return
        (row, reading), self._pending = self._pending, None
        loss, rows = module.take_losses(reading, int(row["step"] or 0))
        mean = (loss - self._logged[0]) / max(rows - self._logged[1], 1.0)
        self._logged, self.last_loss = (loss, rows), mean
        samples = int(row["samples"] or 0) + int(rows)
        self._add_row(trainer, row | {"samples": samples, "train_loss": mean})

    def _add_row(self, trainer: pl.Trainer, row: Row) -> None:
        self.history.append(row)
        values = {k: v for k, v in row.items() if v is not None and k not in ("step", "time_s")}
        for logger in trainer.loggers:
            logger.log_metrics(values, step=int(row["step"] or 0))

    def _has_stalled(self, module: pl.LightningModule) -> bool:
        assert isinstance(module, TrainingModule)
        return has_stalled(self.history, module.task.facts.primary_metric, self._patience)


def _data(trainer: pl.Trainer) -> DataModule:
    data = trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(data, DataModule)
    return data


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def close_ledger(counts: SampleCounts, plan: SamplingPlan, epoch: int, split: str) -> LedgerEntry:
    """Return the ledger entry of an epoch, after comparing the samples read with the plan.

    Args:
        counts: Samples that all ranks read, resumes included.
        plan: Samples that the epoch was to read.
        epoch: Epoch, from 0.
        split: Name of the split.

    Raises:
        RsdlError: If they differ: samples were lost or read twice.
    """
    balanced = (
        counts.planned == plan.num_planned == counts.delivered + counts.skipped
        and counts.fingerprint == plan.fingerprint()
    )
    entry = LedgerEntry(
        epoch=epoch,
        split=split,
        planned=plan.num_planned,
        delivered=counts.delivered,
        padded=counts.padded,
        skipped=counts.skipped,
        fingerprint=f"{counts.fingerprint:016x}",
        balanced=balanced,
    )
    if not balanced:
        raise RsdlError(
            "ledger",
            f"epoch {epoch} does not balance: {entry}",
            "this is a bug in rsdl: please report it",
        )
    return entry
