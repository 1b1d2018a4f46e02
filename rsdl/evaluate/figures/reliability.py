"""The reliability diagram: accuracy of the predictions in each bin of confidence."""

from collections.abc import Sequence
from dataclasses import dataclass

from rsdl.evaluate.figures.axes import BOTTOM, X_SPAN, Y_SPAN, Axis, linear_axis
from rsdl.evaluate.formatting import count, percent
from rsdl.records.evaluation import CalibrationBin

HISTOGRAM_TOP, HISTOGRAM_BOTTOM = 222, 262


@dataclass(frozen=True, slots=True)
class Bar:
    """One bin: accuracy in the diagram, samples in the histogram below; lengths in CSS pixels."""

    x: float
    width: float
    accuracy_y: float
    confidence_y: float
    count_y: float
    tip: str


@dataclass(frozen=True, slots=True)
class Reliability:
    """Geometry of the diagram, and its conclusion in words."""

    axis_x: Axis
    axis_y: Axis
    bars: tuple[Bar, ...]
    verdict: str
    baseline: float = BOTTOM
    histogram_baseline: float = HISTOGRAM_BOTTOM


def reliability(bins: Sequence[CalibrationBin]) -> Reliability | None:
    """Return the diagram of the bins with samples, or ``None`` if all are empty."""
    filled = [b for b in bins if b.count and b.accuracy is not None and b.confidence is not None]
    if not filled:
        return None
    axis_x = linear_axis(0, 1, X_SPAN, word=lambda value: percent(value, 0))
    axis_y = linear_axis(0, 1, Y_SPAN, word=lambda value: percent(value, 0))
    most = max(b.count for b in filled)
    height = HISTOGRAM_BOTTOM - HISTOGRAM_TOP
    bars = tuple(
        Bar(
            x=axis_x.place(b.low) + 1,
            width=round(max(axis_x.place(b.high) - axis_x.place(b.low) - 2, 1), 1),
            accuracy_y=axis_y.place(b.accuracy or 0),
            confidence_y=axis_y.place(b.confidence or 0),
            count_y=round(HISTOGRAM_BOTTOM - max(height * b.count / most, 1), 1),
            tip=f"confidence {percent(b.low, 0)} to {percent(b.high, 0)}: "
            f"{count(b.count)} samples, {percent(b.accuracy)} right",
        )
        for b in filled
    )
    return Reliability(axis_x, axis_y, bars, _verdict(filled))


def _verdict(bins: Sequence[CalibrationBin]) -> str:
    total = sum(b.count for b in bins)
    confidence = sum(b.count * (b.confidence or 0) for b in bins) / total
    accuracy = sum(b.count * (b.accuracy or 0) for b in bins) / total
    tendency = "well calibrated"
    if abs(confidence - accuracy) >= 0.01:
        tendency = "overconfident" if confidence > accuracy else "underconfident"
    return (
        f"On average the network is {tendency}: "
        f"mean confidence {percent(confidence)}, accuracy {percent(accuracy)}."
    )
