"""The position of a run between two optimizer steps: (epoch, samples consumed)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Position:
    """The position of a run.

    Attributes:
        epoch: Epoch, from 0.
        consumed: Samples consumed of the epoch's global order.
        step: Optimizer steps since the start of the run.
        validate: Whether the previous epoch is not validated yet.
    """

    epoch: int = 0
    consumed: int = 0
    step: int = 0
    validate: bool = False
