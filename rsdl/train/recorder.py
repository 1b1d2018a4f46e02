"""The callback that watches a run and writes its account."""

import math
import time
from dataclasses import asdict
from typing import Any

import pytorch_lightning as pl
import torch

from rsdl.core.batch import Batch, Tally
from rsdl.core.errors import RsdlError
from rsdl.core.world import sum_over_ranks
from rsdl.data.module import DataModule
from rsdl.data.plan import SamplingPlan
from rsdl.train.checkpoint import BEST, STATE, Position, set_progress, state_of
from rsdl.train.module import TrainingModule
from rsdl.train.pace import Pace
from rsdl.train.record import LedgerEntry, Row, RunFolder, RunRecord

SECONDS_BETWEEN_WRITES = 20.0


class Recorder(pl.Callback):
    """Keeps position, ledger, history and record, and the best checkpoint.

    Stands before the checkpointer in the list of callbacks: a checkpoint holds what it has counted.

    Args:
        folder: The run's files.
        record: The run's record.
        history: Rows of ``metrics.csv`` so far.
        log_every_steps: Optimizer steps between two rows.
        patience: Epochs without a better validation after which to stop; ``None`` goes on.
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
        self.pace = Pace()
        self.position = Position()
        self.last_loss: float | None = None
        self._log_every_steps = log_every_steps
        self._patience = patience
        self._tally = Tally()  # this rank's, since the epoch's start or the resume
        self._before = Tally()  # all ranks', of this epoch, before the resume
        self._sums_before = (0.0, 0.0)  # loss and rows likewise
        self._logged = (0.0, 0.0)  # loss and rows of the epoch at the last row
        self._resumed: Position | None = None
        self._written = time.monotonic()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add where the run is and what it has counted in this epoch."""
        assert isinstance(pl_module, TrainingModule)
        checkpoint[STATE] = {
            "position": asdict(self.position),
            "tally": asdict(self._total(trainer)),
            "train_sums": list(self._sums(pl_module)),
            "logged": list(self._logged),
        }

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take up the run where the checkpoint left it."""
        state = state_of(checkpoint, "checkpoint")
        self.position = self._resumed = Position(**state["position"])
        self._before = Tally(**state["tally"])
        self._sums_before = (state["train_sums"][0], state["train_sums"][1])
        self._logged = (state["logged"][0], state["logged"][1])
        set_progress(trainer, self.position)

    @property
    def epoch(self) -> int:
        """The epoch that was trained last, from 0."""
        return self.position.epoch - 1 if self.position.validate else self.position.epoch

    def take(self, position: Position) -> None:
        """Stand where a checkpoint stands; what was logged after it is going to happen again."""
        self.position = position
        self.history = [row for row in self.history if _is_before(row, position)]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Do not go on with a run that early stopping has ended."""
        self._tick(trainer)
        self.pace.restart()
        trainer.should_stop = self._has_stalled()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open a ledger, unless a resumed epoch goes on with its own."""
        assert isinstance(pl_module, TrainingModule)
        self._tally = Tally()
        pl_module.train_sums.zero_()
        resumed, self._resumed = self._resumed, None
        if resumed is None or not resumed.consumed:
            self._before, self._sums_before, self._logged = Tally(), (0.0, 0.0), (0.0, 0.0)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Count the batch; move the position at the end of an optimizer step."""
        assert isinstance(pl_module, TrainingModule)
        self._tally = self._tally + batch.tally
        self.record.add_work(batch.tally, trainer.world_size)
        done = batch_idx + 1
        if done % trainer.accumulate_grad_batches:
            return
        self.position = self._find(trainer, done)
        self._tick(trainer)
        if trainer.global_step % self._log_every_steps == 0:
            self._log_training(trainer, pl_module)
        if time.monotonic() - self._written > SECONDS_BETWEEN_WRITES:
            self.write(trainer)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the validation and keep the best weights."""
        assert isinstance(pl_module, TrainingModule)
        values = {name: _finite(v) for name, v in pl_module.metrics.values().metrics.items()}
        epoch = self.epoch
        row: Row = {"epoch": epoch, "step": self.position.step}
        row |= {"time_s": round(self.record.wall_s, 1)}
        row |= {f"val_{name}": value for name, value in values.items()}
        self._add_row(trainer, row)
        final: dict[str, float | int | None] = {"epoch": epoch, **values}
        metrics = dict(self.record.metrics) | {"final": final}
        monitor = pl_module.task.monitor
        best = metrics.get("best")
        if best is None or (final[monitor] or 0.0) > (best[monitor] or 0.0):
            metrics["best"] = final
            trainer.save_checkpoint(BEST, weights_only=True)
        self.record.metrics = metrics
        self._tick(trainer)
        self.pace.restart()
        self.write(trainer)
        if self._has_stalled():
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the ledger; it must balance."""
        if self.position.consumed == 0:
            self._close_ledger(trainer, self.position.epoch - 1)
            self.record.epochs_completed = self.position.epoch

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

    def _total(self, trainer: pl.Trainer) -> Tally:
        values = asdict(self._tally)
        sums = sum_over_ranks(list(values.values()), trainer.strategy.root_device)
        return self._before + Tally(**dict(zip(values, sums, strict=True)))

    def _sums(self, module: TrainingModule) -> tuple[float, float]:
        """Return loss and rows of this epoch so far, over all ranks."""
        sums = module.train_sums.clone()
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(sums)
        loss, rows = sums.tolist()
        return self._sums_before[0] + loss, self._sums_before[1] + rows

    def _close_ledger(self, trainer: pl.Trainer, epoch: int) -> None:
        data = _data(trainer)
        assert data.train_loader is not None
        split = data.data.config.train_split
        entry = close_ledger(self._total(trainer), data.train_loader.plan, epoch, split)
        kept = [old for old in self.record.ledger if old.epoch < epoch]
        self.record.ledger = [*kept, entry]
        if not entry.balanced:
            raise RsdlError(
                "ledger",
                f"epoch {epoch} does not balance: {entry}",
                "this is a bug in rsdl: please report it",
            )

    def _tick(self, trainer: pl.Trainer) -> None:
        loader = _data(trainer).train_loader
        passed, waited = self.pace.tick(
            self.record.samples_read, loader.waited_s if loader is not None else 0.0
        )
        self.record.wall_s += passed
        self.record.device_s += passed * trainer.world_size
        self.record.data_wait_s += waited
        self.record.optimizer_steps = trainer.global_step

    def _log_training(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        loss, rows = self._sums(module)
        mean = (loss - self._logged[0]) / max(rows - self._logged[1], 1.0)
        self._logged, self.last_loss = (loss, rows), mean
        rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        if not math.isfinite(mean):
            raise RsdlError(
                "optim.lr",
                f"the loss is {mean} at step {trainer.global_step} (rate {rate:.3g})",
                "use a lower optim.lr, optim.clip_grad=1, or trainer.precision=32",
            )
        row: Row = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "samples": self.record.samples_read,
            "time_s": round(self.record.wall_s, 1),
            "lr": rate,
            "train_loss": mean,
            "images_per_s": round(self.pace.images_per_s, 1),
            "data_wait_pct": round(100 * self.pace.data_wait, 2),
        }
        self._add_row(trainer, row)

    def _add_row(self, trainer: pl.Trainer, row: Row) -> None:
        self.history.append(row)
        values = {k: v for k, v in row.items() if v is not None and k not in ("step", "time_s")}
        for logger in trainer.loggers:
            logger.log_metrics(values, step=int(row["step"] or 0))

    def _has_stalled(self) -> bool:
        """Return whether validation has not become better for ``patience`` epochs."""
        scores = [score for row in self.history if (score := row.get("val_oa")) is not None]
        if self._patience is None or len(scores) <= self._patience:
            return False
        return max(scores[-self._patience :]) <= max(scores[: -self._patience])


def close_ledger(tally: Tally, plan: SamplingPlan, epoch: int, split: str) -> LedgerEntry:
    """Compare what was read in an epoch with what was planned.

    Args:
        tally: What all ranks read, resumes included.
        plan: What the epoch was to read.
        epoch: Epoch, from 0.
        split: Name of the split.
    """
    balanced = (
        tally.planned == plan.num_planned == tally.delivered + tally.skipped
        and tally.fingerprint == plan.fingerprint()
    )
    return LedgerEntry(
        epoch=epoch,
        split=split,
        planned=plan.num_planned,
        delivered=tally.delivered,
        padded=tally.padded,
        skipped=tally.skipped,
        fingerprint=f"{tally.fingerprint:016x}",
        balanced=balanced,
    )


def _is_before(row: Row, position: Position) -> bool:
    step, validates = int(row["step"] or 0), row.get("val_loss") is not None
    return step < position.step or (step == position.step and not validates)


def _data(trainer: pl.Trainer) -> DataModule:
    data = trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(data, DataModule)
    return data


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
