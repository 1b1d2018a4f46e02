"""All uses of Lightning's private interface, which bound the supported versions of Lightning.

Loop counters are set from a position instead of being restored from a checkpoint, so that a run can
resume with another number of devices or accumulation steps.
"""

import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger

from rsdl.train.checkpoint import Position

# Attribute paths below a Trainer; a test names those that a new Lightning has removed.
LOOP = "fit_loop.epoch_loop"
PRIVATE = (
    f"{LOOP}._batches_that_stepped",
    f"{LOOP}._broadcast_sigterm_tensor",
    f"{LOOP}.automatic_optimization.optim_progress.optimizer.step.total.completed",
    f"{LOOP}.automatic_optimization.optim_progress.optimizer.step.total.ready",
    *(
        f"fit_loop.epoch_progress.{kind}.{name}"
        for kind in ("total", "current")
        for name in ("ready", "started", "processed", "completed")
    ),
)


def set_progress(trainer: pl.Trainer, position: Position) -> None:
    """Set the counters of Lightning's loops to a position."""
    fit = trainer.fit_loop
    for progress in (fit.epoch_progress.total, fit.epoch_progress.current):
        for name in ("ready", "started", "processed", "completed"):
            setattr(progress, name, position.epoch)
    loop = fit.epoch_loop
    steps = loop.automatic_optimization.optim_progress.optimizer.step.total
    steps.ready = steps.completed = position.step
    loop._batches_that_stepped = position.step


def ignore_sigterm(trainer: pl.Trainer) -> None:
    """Disable the broadcast by which Lightning checks rank 0 for SIGTERM before every batch.

    The broadcast makes all ranks synchronize with the device.
    """
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = _do_nothing  # type: ignore[method-assign]


def flush(logger: TensorBoardLogger) -> None:
    """Flush a logger; do not create an event file for one without events."""
    if logger._experiment is not None:
        logger._experiment.flush()


def _do_nothing() -> None:
    return None
