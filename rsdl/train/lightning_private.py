"""All that rsdl touches of Lightning beyond its public interface; its version is bounded for that.

Lightning's loop counters are not restored from a checkpoint but set from a position, so that it
does not matter how many devices or accumulation steps the run had.
"""

import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger

from rsdl.train.position import Position

# Where each lies below a Trainer; a test says which of them a new Lightning has no more.
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
    """Tell Lightning's loops where the run is."""
    fit = trainer.fit_loop
    for progress in (fit.epoch_progress.total, fit.epoch_progress.current):
        for name in ("ready", "started", "processed", "completed"):
            setattr(progress, name, position.epoch)
    loop = fit.epoch_loop
    steps = loop.automatic_optimization.optim_progress.optimizer.step.total
    steps.ready = steps.completed = position.step
    loop._batches_that_stepped = position.step


def ignore_sigterm(trainer: pl.Trainer) -> None:
    """Keep Lightning from asking the first rank before every batch whether it got SIGTERM.

    All ranks would wait for the device to hear the answer.
    """
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = _do_nothing  # type: ignore[method-assign]


def flush(logger: TensorBoardLogger) -> None:
    """Write what a logger has, without opening a file for one that has nothing."""
    if logger._experiment is not None:
        logger._experiment.flush()


def _do_nothing() -> None:
    return None
