"""Precision by recall: the mean of all classes beside single ones, and each class by itself."""

from collections.abc import Mapping, Sequence

from rsdl.evaluate.figures.axes import X_SPAN, Y_SPAN, Plot, draw_line, linear_axis
from rsdl.evaluate.formatting import number, percent
from rsdl.records.detection import DetectionEvaluation

NUM_LINES = 4  # strongest and weakest classes of a plot each
Curve = Sequence[float | None]


def recall_plots(evaluation: DetectionEvaluation) -> list[Plot]:
    """Return the mean of the curves, and those of the classes; of many the extremes by AP50.

    There are none if no class has an object.
    """
    curves = dict(zip(evaluation.classes, evaluation.curves, strict=True))
    ranked = [row for row in evaluation.per_class if curves[row.name]]
    ranked.sort(key=lambda row: -(row.ap50 or 0))
    names = [row.name for row in ranked]
    if len(names) < 2:
        return [_plot(name, {name: curves[name]}) for name in names]
    columns = zip(*(curves[name] for name in names), strict=True)
    mean = [sum(number(value) or 0 for value in column) / len(names) for column in columns]
    groups = {"Classes": names}
    if len(names) > 2 * NUM_LINES:
        groups = {"Strongest classes": names[:NUM_LINES], "Weakest classes": names[-NUM_LINES:]}
    return [_plot(f"Mean of {len(names)} classes", {"mean": mean})] + [
        _plot(title, {name: curves[name] for name in chosen}) for title, chosen in groups.items()
    ]


def class_plots(evaluation: DetectionEvaluation) -> list[Plot]:
    """Return the curve of each class with objects."""
    rows = zip(evaluation.per_class, evaluation.curves, strict=True)
    return [_plot(f"{row.name}: AP50 {percent(row.ap50)}", {row.name: c}) for row, c in rows if c]


def _plot(title: str, named: Mapping[str, Curve]) -> Plot:
    x = linear_axis(0, 1, X_SPAN, word=lambda value: percent(value, 0))
    y = linear_axis(0, 1, Y_SPAN, word=lambda value: percent(value, 0))
    lines = []
    for style, (name, curve) in enumerate(named.items()):
        # A recall that is never reached has precision 0: the line ends before it.
        pairs = [(k / (len(curve) - 1), value) for k, value in enumerate(curve) if number(value)]
        known = [(recall, value) for recall, value in pairs if value is not None]
        if known:
            lines.append(draw_line(name, known, x, y, style=style))
    summary = f"Precision by recall at IoU 0.5: {title}"
    return Plot(title, summary, x, y, "Recall", tuple(lines))
