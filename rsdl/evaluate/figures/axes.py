"""Geometry of a small line or point plot; the template ``figures.html.jinja`` draws it.

All lengths are CSS pixels from the top left of the figure.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import fmean

WIDTH, HEIGHT = 380, 250
LEFT, RIGHT, TOP, BOTTOM = 48, 362, 12, 212
X_SPAN, Y_SPAN = (LEFT, RIGHT), (BOTTOM, TOP)

Pairs = Sequence[tuple[float, float]]
Wording = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Tick:
    """A labelled position along an axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis that maps values to pixels.

    Attributes:
        low: Value at pixel ``start``.
        high: Value at pixel ``end``, above ``low``.
        log: Whether the scale is logarithmic.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    ticks: tuple[Tick, ...] = ()

    def place(self, value: float) -> float:
        """Return the pixel of ``value``, to a tenth."""
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        at = math.log(value) if self.log else value
        return round(self.start + (at - low) / (high - low) * (self.end - self.start), 1)


@dataclass(frozen=True, slots=True)
class Line:
    """A named curve; ``style`` picks its colour and dashes."""

    name: str
    style: int
    path: str
    end: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Point:
    """A dot with a label; ``hollow`` marks a run that is not completed."""

    x: float
    y: float
    name: str
    style: int
    value: str
    hollow: bool = False
    label: tuple[float, float, str] | None = None


@dataclass(frozen=True, slots=True)
class Plot:
    """One figure.

    Attributes:
        title: Title of the figure.
        summary: Text alternative of the figure, for screen readers.
        front: SVG path of a line behind the points; empty for none.
    """

    title: str
    summary: str
    x: Axis
    y: Axis
    x_label: str
    lines: tuple[Line, ...] = ()
    points: tuple[Point, ...] = ()
    front: str = ""
    width: int = field(default=WIDTH, init=False)
    height: int = field(default=HEIGHT, init=False)


def plain(value: float) -> str:
    """Return a tick label with few characters: ``2,000``, ``0.05``."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def scientific(value: float) -> str:
    """Return a tick label in scientific notation: ``2e-5``."""
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}" if value else "0"


def linear_axis(
    low: float, high: float, span: tuple[float, float], *, word: Wording = plain
) -> Axis:
    """Return an axis that contains ``low`` and ``high`` and starts and ends at round numbers.

    Args:
        low: Least value to show.
        high: Greatest value to show, at least ``low``.
        span: First and last pixel.
        word: Formats a value as a tick label.
    """
    low, high = _apart(low, high)
    step = _round_step(low, high)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    axis = Axis(first * step, last * step, *span)
    return _ticked(axis, (k * step for k in range(first, last + 1)), word)


def tight_axis(
    low: float, high: float, span: tuple[float, float], *, word: Wording = plain
) -> Axis:
    """Return an axis of counts from ``low`` to ``high`` exactly, with ticks at whole numbers."""
    low, high = _apart(low, high)
    step = max(_round_step(low, high), 1.0)
    step = 5.0 if step == 2.5 else step  # there is no epoch 2.5
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return _ticked(Axis(low, high, *span), (k * step for k in range(first, last + 1)), word)


def log_axis(low: float, high: float, span: tuple[float, float], *, word: Wording = plain) -> Axis:
    """Return a logarithmic axis with a margin around ``low`` and ``high``, both above zero."""
    margin = max((high / low) ** 0.12, 1.25)
    low, high = low / margin, high * margin
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 1.5, 2, 3, 5, 7) if high / low < 6 else (1, 2, 5) if high / low < 1000 else (1,)
    values = (factor * 10.0**decade for decade in decades for factor in factors)
    return _ticked(Axis(low, high, *span, log=True), (v for v in values if low <= v <= high), word)


def draw_line(name: str, pairs: Pairs, x: Axis, y: Axis, *, style: int) -> Line:
    """Return the curve through ``pairs`` of (x, y), at least one."""
    places = [(x.place(a), y.place(b)) for a, b in pairs]
    path = "M" + "L".join(f"{a:g} {b:g}" for a, b in places)
    return Line(name, style, path, places[-1])


def thin(pairs: Pairs, limit: int = 240) -> list[tuple[float, float]]:
    """Return at most ``limit`` pairs, sorted by x: means of equally many neighbouring pairs."""
    ordered = sorted(pairs)
    groups = min(limit, len(ordered))
    bounds = [len(ordered) * k // groups for k in range(groups + 1)] if groups else []
    chunks = (ordered[a:b] for a, b in pairwise(bounds))
    return [(fmean(a for a, _ in chunk), fmean(b for _, b in chunk)) for chunk in chunks]


def place_labels(points: Sequence[Point]) -> tuple[Point, ...]:
    """Return the points with labels that overlap no dot or earlier label; drop other labels."""
    boxes = [(p.x - 5, p.y - 5, p.x + 5, p.y + 5) for p in points]
    labelled = []
    for point in points:
        wide = 6.2 * len(point.name)
        for dx, dy, anchor in _OFFSETS:
            left = point.x + dx - {"start": 0, "middle": wide / 2, "end": wide}[anchor]
            box = (left, point.y + dy - 10, left + wide, point.y + dy + 3)
            inside = box[0] >= LEFT and box[2] <= WIDTH and box[1] >= 0 and box[3] <= BOTTOM
            if inside and not any(_overlap(box, other) for other in boxes):
                boxes.append(box)
                point = replace(point, label=(point.x + dx, point.y + dy, anchor))
                break
        labelled.append(point)
    return tuple(labelled)


_Box = tuple[float, float, float, float]
# Label positions, best first: beside the dot, then slightly higher or lower, then above or below.
_OFFSETS = (
    *((dx, dy, anchor) for dy in (4, -5, 13) for dx, anchor in ((8, "start"), (-8, "end"))),
    *((0, dy, "middle") for dy in (-9, 18, -21, 30)),
)


def _overlap(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def share_axis(
    low: float, high: float, span: tuple[float, float], *, word: Wording = plain
) -> Axis:
    """Return an axis for shares within ``[0, 1]``; a single value gets a margin around it."""
    if high - low < 0.01:
        low, high = max(low - 0.05, 0.0), min(high + 0.05, 1.0)
    return linear_axis(low, high, span, word=word)


def _apart(low: float, high: float) -> tuple[float, float]:
    if high - low > 1e-9 * max(abs(low), abs(high)):
        return low, high
    return (low - abs(low) / 2, high + abs(high) / 2) if low else (0.0, 1.0)


def _round_step(low: float, high: float, num_steps: int = 5) -> float:
    rough = (high - low) / num_steps
    unit = 10.0 ** math.floor(math.log10(rough))
    return next(unit * k for k in (1, 2, 2.5, 5, 10) if unit * k >= rough * (1 - 1e-9))


def _ticked(axis: Axis, values: Iterable[float], word: Wording) -> Axis:
    # Round off the float error of multiples of a decimal step, such as 0.30000000000000004.
    clean = (float(f"{value:.12g}") + 0.0 for value in values)
    return replace(axis, ticks=tuple(Tick(axis.place(value), word(value)) for value in clean))
