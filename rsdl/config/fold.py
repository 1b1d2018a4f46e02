"""A fold of cross-validation, as ``K/N``."""

import re
from typing import NamedTuple

MOST_FOLDS = 100


class Fold(NamedTuple):
    """The fold that a run is validated on; it is trained on the others.

    Attributes:
        number: Number of the fold, from 1.
        num_folds: Number of folds.
    """

    number: int
    num_folds: int

    def __str__(self) -> str:
        """Return ``K/N``."""
        return f"{self.number}/{self.num_folds}"

    @property
    def suffix(self) -> str:
        """What the names of the fold's runs end with."""
        return f"-fold{self.number}of{self.num_folds}"


def parse_fold(text: str) -> Fold:
    """Return the fold that ``K/N`` names.

    Raises:
        ValueError: Unless N is 2 to 100 and K is 1 to N; the message says so.
    """
    part = parse_part(text)
    if part is None or not 2 <= part[1] <= MOST_FOLDS:
        raise ValueError(f"must be K/N with N from 2 to {MOST_FOLDS} and K from 1 to N, as 2/5")
    return Fold(*part)


def parse_part(text: str) -> tuple[int, int] | None:
    """Return the numbers of ``K/N``; ``None`` unless K is 1 to N."""
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    number, parts = map(int, found.groups()) if found else (0, 0)
    return (number, parts) if 1 <= number <= parts else None
