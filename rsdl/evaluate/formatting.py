"""Formats of numbers for readers: with units, few digits, and a dash for a missing value."""

import math
from datetime import UTC, datetime

DASH = "–"  # noqa: RUF001 - the typographer's sign for "no value"


def number(value: float | None) -> float | None:
    """Return ``value`` as a float if it is finite, else ``None``."""
    return None if value is None or not math.isfinite(value) else float(value)


def count(value: float | None) -> str:
    """Return a whole number with thousands separators: ``12,345``."""
    known = number(value)
    return DASH if known is None else f"{round(known):,}"


def compact(value: float | None) -> str:
    """Return a count in three or four digits: ``23.6 M``."""
    known = number(value)
    if known is None:
        return DASH
    if abs(known) < 10_000:
        return f"{round(known):,}"
    return _scaled(known, ("", "k", "M", "B", "T"))


def size(value: float | None) -> str:
    """Return bytes in decimal units: ``124.7 GB``."""
    known = number(value)
    return DASH if known is None else _scaled(known, ("B", "kB", "MB", "GB", "TB", "PB"))


def percent(value: float | None, digits: int = 1) -> str:
    """Return a share as percent: ``0.917`` is ``91.7%``."""
    known = number(value)
    return DASH if known is None else f"{100 * known:.{digits}f}%"


def decimal(value: float | None, digits: int = 3) -> str:
    """Return a number with a fixed number of decimals."""
    known = number(value)
    return DASH if known is None else f"{known:.{digits}f}".replace("-", "\u2212")


def p_value(value: float | None) -> str:
    """Return a p-value with three decimals, as ``0.012``; ``< 0.001`` below; a dash if unknown."""
    if value is None:
        return DASH
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def hours(seconds: float | None) -> str:
    """Return seconds as hours: ``12.3 h``; less than 36 s (0.01 h) in seconds."""
    known = number(seconds)
    if known is None or 0 < known < 36:
        return duration(known)
    value = known / 3600
    return (
        f"{value:,.0f} h" if value >= 100 else f"{value:.1f} h" if value >= 1 else f"{value:.2f} h"
    )


def energy(joules: float | None) -> str:
    """Return joules as watt-hours: ``12.3 kWh``."""
    known = number(joules)
    return DASH if known is None else _scaled(known / 3600, ("Wh", "kWh", "MWh", "GWh"))


def duration(seconds: float | None) -> str:
    """Return seconds in their two largest units: ``3 h 12 min``."""
    known = number(seconds)
    if known is None:
        return DASH
    if known < 10:
        return f"{known:.1f} s"
    rest = round(known)
    parts: list[str] = []
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        whole, rest = divmod(rest, length)
        if whole or parts:
            parts.append(f"{whole} {unit}")
    return " ".join(part for part in parts[:2] if not part.startswith("0 "))


def moment(value: str) -> str:
    """Return an ISO 8601 time in UTC to the minute; return other text unchanged."""
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        return value
    in_utc = parsed.astimezone(UTC) if parsed.tzinfo else parsed
    return f"{in_utc:%Y-%m-%d %H:%M}" + (" UTC" if parsed.tzinfo else "")


def text(value: str | None) -> str:
    """Return a text, or a dash if there is none."""
    return value or DASH


def _scaled(value: float, formatting: tuple[str, ...]) -> str:
    step = 0
    while abs(value) >= 999.5 and step < len(formatting) - 1:
        value, step = value / 1000, step + 1
    if step == 0:
        return f"{value:.0f} {formatting[0]}".strip()
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f} {formatting[step]}"
