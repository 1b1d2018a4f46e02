"""Where a run is: (epoch, samples consumed), between two optimizer steps."""

from dataclasses import dataclass


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
