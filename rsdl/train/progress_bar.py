"""Progress of training: a bar on a terminal, plain lines where the output is redirected."""

import sys
import time
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from rsdl.train.module import TrainingModule
from rsdl.train.recorder import Recorder

SECONDS_BETWEEN_LINES = 30.0


class ProgressBar(pl.Callback):
    """Shows epoch, loss, images/s, share of time waiting for data, and the time left.

    Args:
        recorder: Source of the numbers.
        steps_per_epoch: Optimizer steps in an epoch.
        num_steps: Optimizer steps in the run.
        console: Console to print to.
    """

    def __init__(
        self, recorder: Recorder, *, steps_per_epoch: int, num_steps: int, console: Console
    ) -> None:
        self._recorder = recorder
        self._steps_per_epoch = steps_per_epoch
        self._num_steps = num_steps
        self._console = console
        self._live = console.is_terminal and sys.stdout.isatty()
        self._bar: Progress | None = None
        self._task: Any = None
        self._shown = time.monotonic()
        self._begin = (time.monotonic(), 0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar."""
        self._begin = (time.monotonic(), trainer.global_step)
        if self._live and trainer.is_global_zero:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                TextColumn("{task.completed}/{task.total}"),
                TextColumn("{task.fields[facts]}"),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
            )
            self._task = self._bar.add_task("", total=self._steps_per_epoch, facts="")
            self._bar.start()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Update the bar, or print a line every ``SECONDS_BETWEEN_LINES``."""
        if not trainer.is_global_zero:
            return
        now = time.monotonic()
        if self._bar is not None:
            if now - self._shown > 0.2:
                self._shown = now
                step = trainer.global_step - trainer.current_epoch * self._steps_per_epoch
                self._bar.update(
                    self._task,
                    completed=step,
                    description=f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}",
                    facts=self._facts(trainer),
                )
        elif now - self._shown > SECONDS_BETWEEN_LINES:
            self._shown = now
            self._console.print(
                f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs} "
                f"step {trainer.global_step}/{self._num_steps} {self._facts(trainer)}",
                highlight=False,
            )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print one line for the epoch."""
        assert isinstance(pl_module, TrainingModule)
        if not trainer.is_global_zero or "final" not in self._recorder.record.metrics:
            return
        final, best = (self._recorder.record.metrics[key] for key in ("final", "best"))
        loss = self._recorder.last_loss
        mark = " *" if final == best else ""
        self._console.print(
            f"epoch {int(final['epoch'] or 0) + 1:>3}/{trainer.max_epochs}"
            f"  train loss {'-' if loss is None else f'{loss:.3f}'}"
            f"  val loss {final['loss'] or 0:.3f}  val {pl_module.task.describe(final)}{mark}",
            highlight=False,
        )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remove the bar."""
        self._stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Remove the bar."""
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _facts(self, trainer: pl.Trainer) -> str:
        pace = self._recorder.pace
        loss, rate = self._recorder.last_loss, pace.images_per_s
        return (
            f"loss {'-' if loss is None else f'{loss:.3f}'}  "
            f"{f'{rate:,.0f}' if rate else '-'} images/s  "
            f"data wait {pace.data_wait:.0%}  ETA {self._eta(trainer)}"
        )

    def _eta(self, trainer: pl.Trainer) -> str:
        begin, first = self._begin
        done = trainer.global_step - first
        if done < 2:
            return "-"
        left = (self._num_steps - trainer.global_step) * (time.monotonic() - begin) / done
        hours, seconds = divmod(int(left), 3600)
        return f"{hours}:{seconds // 60:02d}:{seconds % 60:02d}"
