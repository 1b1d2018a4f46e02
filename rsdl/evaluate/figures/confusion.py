"""The confusion matrix as a heat map, and the most frequent confusions as a list.

The colour of a cell shows its share of the true class: blue on the diagonal and orange off it,
which colour-blind readers can distinguish. Only cells with samples are drawn, so the size of the
figure is bounded by the number of samples, even for a thousand classes.
"""

import math
from dataclasses import dataclass

from rsdl.records.evaluation_base import Evaluation

LABEL_CHARS = 22
CHAR_WIDTH = 7.0


@dataclass(frozen=True, slots=True)
class Cell:
    """The samples of one true class and one predicted class."""

    row: int
    column: int
    count: int
    share: float
    shown: str

    @property
    def right(self) -> bool:
        """Whether the prediction is correct."""
        return self.row == self.column

    @property
    def opacity(self) -> float:
        """Opacity of the colour; the exponent below 1 keeps rare confusions visible."""
        return round(0.08 + 0.92 * math.pow(self.share, 0.6), 3)

    @property
    def tone(self) -> str:
        """Class of opacity, from which each theme chooses dark or light text."""
        return "weak" if self.opacity <= 0.59 else "middle" if self.opacity <= 0.83 else "strong"


@dataclass(frozen=True, slots=True)
class Matrix:
    """Geometry of the heat map; lengths in CSS pixels."""

    classes: tuple[str, ...]
    labels: tuple[str, ...]
    cells: tuple[Cell, ...]
    side: int
    font: float
    label_font: float
    label_width: int
    summary: str


@dataclass(frozen=True, slots=True)
class Confusion:
    """One kind of mistake: ``count`` samples, a ``share`` of ``label``, predicted ``predicted``."""

    label: str
    predicted: str
    count: int
    share: float


def confusion_matrix(evaluation: Evaluation) -> Matrix:
    """Return the heat map of an evaluation; the cell size depends on the number of classes."""
    names, rows = evaluation.shown_confusion
    num_classes = len(rows)
    side = next((side for most, side in _SIDES if num_classes <= most), 8)
    digits = max(len(str(max(map(max, rows)))), 2)
    font = round(min(12.0, (side - 3) / (0.6 * digits)), 1)
    cells = tuple(
        Cell(i, j, n, n / total, str(n) if font >= 6.5 else "")
        for i, (row, total) in enumerate((row, sum(row)) for row in rows)
        for j, n in enumerate(row)
        if n
    )
    labels = tuple(map(_short, names))
    summary = f"Confusion matrix of {num_classes} classes; rows are true, columns predicted"
    width = round(max(map(len, labels)) * CHAR_WIDTH * min(12, side) / 12) + 14
    return Matrix(names, labels, cells, side, font, min(12, side), width, summary)


def frequent_confusions(evaluation: Evaluation, limit: int) -> list[Confusion]:
    """Return at most ``limit`` kinds of mistakes between classes, the most frequent first."""
    names, rows = evaluation.shown_confusion
    number = len(evaluation.classes)  # what is shown beside them, as background, comes after
    found = [
        Confusion(names[i], names[j], n, n / sum(row))
        for i, row in enumerate(rows[:number])
        for j, n in enumerate(row[:number])
        if n and i != j
    ]
    return sorted(found, key=lambda item: (-item.count, -item.share))[:limit]


def confusion_sections(evaluation: Evaluation) -> dict[str, object]:
    """Return the variables of a page that shows the matrix, and confusions beside the classes."""
    # About as many confusions as the table of classes beside them has rows.
    limit = min(max(len(evaluation.classes) // 2, 10), 22)
    return {
        "matrix": confusion_matrix(evaluation),
        "confusions": frequent_confusions(evaluation, limit),
    }


_SIDES = ((12, 40), (24, 32), (32, 27), (52, 20), (100, 14))


def _short(name: str) -> str:
    return name if len(name) <= LABEL_CHARS else name[: LABEL_CHARS - 1].rstrip() + "…"
