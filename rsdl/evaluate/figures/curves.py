"""Curves of a run from the rows of ``metrics.csv``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rsdl.evaluate.figures.axes import (
    X_SPAN,
    Y_SPAN,
    Plot,
    Wording,
    draw_line,
    linear_axis,
    plain,
    scientific,
    thin,
    tight_axis,
)
from rsdl.evaluate.formatting import number

History = Sequence[Mapping[str, float | None]]
Pairs = list[tuple[float, float]]
Named = Sequence[tuple[str, Pairs]]


@dataclass(frozen=True, slots=True)
class Curves:
    """Columns of ``metrics.csv`` that share a plot.

    Attributes:
        title: Title of the plot.
        columns: Column of each curve, by the curve's name.
        word: Formats a value as a tick label.
        from_zero: Whether the vertical axis must start at zero.
    """

    title: str
    columns: Mapping[str, str]
    word: Wording = plain
    from_zero: bool = False


def run_curves(history: History, metrics: Sequence[Curves]) -> list[Plot]:
    """Return plots of loss, metrics and learning rate over a run; omit curves without values.

    Args:
        history: Rows of ``metrics.csv``.
        metrics: Plots of validation metrics, which depend on the task.
    """
    plots = []
    for wanted in (
        Curves("Loss", {"train": "train_loss", "validation": "val_loss"}),
        *metrics,
        Curves("Learning rate", _rates(history), scientific, from_zero=True),
    ):
        found = {name: curve(history, column) for name, column in wanted.columns.items()}
        named = [(name, pairs) for name, (_, pairs) in found.items() if pairs]
        if named:
            x_label = next(label for label, _ in found.values())
            plots.append(
                line_plot(wanted.title, named, x_label,
                          word=wanted.word, from_zero=wanted.from_zero)
            )  # fmt: skip
    return plots


def curve(history: History, column: str) -> tuple[str, Pairs]:
    """Return the unit of the x axis, and the values of a column by position.

    Long curves are thinned to means of neighbouring rows, so that a page stays small for any number
    of steps.
    """
    label, positions = time_axis(history)
    values = (number(row.get(column)) for row in history)
    known = zip(positions, values, strict=True)
    return label, thin([(x, y) for x, y in known if x is not None and y is not None])


def _rates(history: History) -> dict[str, str]:
    """Return the curves of the learning rate: the head's, and the range if rates differ."""
    ranged = any(row.get("lr_min") != row.get("lr_max") for row in history)
    return (
        {"head": "lr", "lowest": "lr_min", "highest": "lr_max"}
        if ranged
        else {"learning rate": "lr"}
    )


def line_plot(
    title: str,
    named: Named,
    x_label: str,
    *,
    word: Wording = plain,
    from_zero: bool = False,
    styles: Sequence[int] | None = None,
) -> Plot:
    """Return a plot of curves on common axes.

    Args:
        title: Title of the plot.
        named: Name and pairs of each curve, none of them empty.
        x_label: Unit of the horizontal axis.
        word: Formats a value as a tick label.
        from_zero: Whether the vertical axis must start at zero.
        styles: Style of each curve; by default 0, 1, 2 and so on.
    """
    xs = [x for _, pairs in named for x, _ in pairs]
    ys = [y for _, pairs in named for _, y in pairs] + ([0.0] if from_zero else [])
    x = tight_axis(min(xs), max(xs), X_SPAN)
    y = linear_axis(min(ys), max(ys), Y_SPAN, word=word)
    lines = tuple(
        draw_line(name, pairs, x, y, style=style)
        for style, (name, pairs) in zip(styles or range(len(named)), named, strict=True)
    )
    ends = "; ".join(
        f"{name} from {_word(pairs[0][1], word)} to {_word(pairs[-1][1], word)}"
        for name, pairs in named
    )
    return Plot(title, f"{title} by {x_label.lower()}: {ends}", x, y, x_label, lines)


def time_axis(history: History) -> tuple[str, list[float | None]]:
    """Return the unit of the x axis, and the position of each row.

    If rows of two epochs give the number of steps in an epoch, steps are converted to fractional
    epochs: runs are compared by epochs, and the rows within an epoch stay distinct.
    """
    steps = [number(row.get("step")) for row in history]
    if all(step is None for step in steps):
        return "Epoch", [number(row.get("epoch")) for row in history]
    ends: dict[float, float] = {}
    for row, step in zip(history, steps, strict=True):
        epoch = number(row.get("epoch"))
        if epoch is not None and step is not None:
            ends[epoch] = max(step, ends.get(epoch, step))
    # The newest epoch may still be running, so its last step is not its length.
    whole = sorted(ends)[:-1] if len(ends) > 2 else sorted(ends)
    span = ends[whole[-1]] - ends[whole[0]] if len(whole) > 1 else 0
    if span <= 0:
        return "Optimizer step", steps
    per_epoch = span / (whole[-1] - whole[0])
    return "Epoch", [None if step is None else step / per_epoch for step in steps]


def _word(value: float, word: Wording) -> str:
    return f"{value:.3g}" if word is plain else word(value)
