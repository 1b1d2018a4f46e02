"""Where a run is: (epoch, samples consumed), between two optimizer steps.

Lightning's own loop counters are not restored from a checkpoint but set from that position, so that
it does not matter how many devices or accumulation steps the run had.
"""

from dataclasses import dataclass

import pytorch_lightning as pl


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
