"""Kubernetes quantities: ``500m``, ``1.5``, ``32Gi``, ``1e9``."""

import math
import re
from fractions import Fraction

NUMBER = re.compile(
    r"(?P<sign>[+-]?)(?P<digits>\d+\.?\d*|\.\d+)"
    r"(?:(?P<suffix>[KMGTPE]i|[numkMGTPE])|[eE](?P<exponent>[+-]?\d{1,3}))?"
)
BILLION = 10**9
LARGEST = 2**63 - 1
SUFFIXES = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 10**3),
    **{suffix: Fraction(10 ** (3 * power)) for power, suffix in enumerate("kMGTPE", 1)},
    **{f"{suffix}i": Fraction(1024**power) for power, suffix in enumerate("KMGTPE", 1)},
}


def parse_quantity(value: object) -> Fraction | None:
    """Return a quantity as Kubernetes stores it, or ``None`` for an invalid one.

    Kubernetes stores billionths, rounded away from zero, up to 2^63 - 1.

    Args:
        value: Text, or a number from YAML.
    """
    amount = _parse_exactly(value)
    if amount is None:
        return None
    size = min(Fraction(math.ceil(abs(amount) * BILLION), BILLION), Fraction(LARGEST))
    return size if amount >= 0 else -size


def _parse_exactly(value: object) -> Fraction | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return Fraction(value)
    if isinstance(value, float):
        return Fraction(repr(value)) if math.isfinite(value) else None
    match = NUMBER.fullmatch(value) if isinstance(value, str) and value.isascii() else None
    if match is None:
        return None
    amount = Fraction(match["digits"].rstrip("."))
    if match["suffix"]:
        amount *= SUFFIXES[match["suffix"]]
    elif match["exponent"]:
        amount *= Fraction(10) ** int(match["exponent"])
    return -amount if match["sign"] == "-" else amount


def show_amount(amount: Fraction, *, binary: bool = False) -> str:
    """Return a quantity as text: ``1500m``, ``9600Mi``; rounded down to the unit."""
    if not binary:
        return str(amount.numerator) if amount.denominator == 1 else f"{math.floor(amount * 1000)}m"
    for suffix in ("Gi", "Mi", "Ki"):
        if amount % SUFFIXES[suffix] == 0 and amount:
            return f"{amount // SUFFIXES[suffix]}{suffix}"
    for suffix in ("Mi", "Ki"):
        if amount >= 16 * SUFFIXES[suffix]:
            return f"{amount // SUFFIXES[suffix]}{suffix}"
    return str(math.floor(amount))
