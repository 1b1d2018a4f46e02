"""What the evaluations of all tasks have in common.

Undefined numbers (the recall of a class without samples, a loss that overflowed) are ``None``,
since JSON has no NaN and a reader must not mistake "unknown" for zero.
"""

import math
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from rsdl.config.task import TaskName


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Number = Annotated[float | None, BeforeValidator(_finite)]
Share = Annotated[float, Field(ge=0, le=1)]
DataUri = Annotated[str, Field(pattern=r"^data:image/(png|jpeg|webp);base64,[A-Za-z0-9+/]+=*$")]


class Page(BaseModel):
    """What is read as strictly as it is written."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ClassScores(Page):
    """Metrics of one class.

    Attributes:
        support: Samples, or pixels, of this true class.
        precision: Correct share of the predictions of this class; ``None`` without predictions.
        recall: Correct share of ``support``; ``None`` without support.
        f1: Harmonic mean of both; ``None`` if no sample has or is predicted as this class.
    """

    name: str
    support: int = Field(ge=0)
    precision: Number
    recall: Number
    f1: Number


class Shown(Page):
    """One sample shown in the report.

    Attributes:
        key: Name of the sample in its shard.
        source: File that the sample was made from.
        image: Thumbnail as a ``data:`` URI; no other URI, so that a report makes no requests.
        crs: Coordinate reference system of ``bounds``.
        bounds: Left, bottom, right and top in units of ``crs``.
    """

    key: str
    source: str
    image: DataUri | None = None
    crs: str | None = None
    bounds: tuple[float, float, float, float] | None = None


class Evaluation(Page):
    """The result of evaluating one checkpoint on one split, of any task.

    Attributes:
        run: Name of the run.
        checkpoint: Checkpoint that was evaluated.
        weights: ``raw`` for the trained weights, ``ema`` for their moving average.
        tta: Whether predictions were averaged over flipped and rotated copies.
        windows: Height and width of the windows that whole images were cut into, in pixels;
            ``None`` if images were seen as packed, cropped and resized by ``data.eval_crop``.
        num_samples: Evaluated samples.
        num_skipped: Samples that could not be decoded.
        metrics: By name, in the order of tables; ``loss`` is among them.
        per_class: One row for each class, in the order of ``classes``.
        confusion: Counts by true class (rows) and predicted class (columns), ``[C][C]``.
    """

    format: Literal[1] = 1
    task: TaskName
    run: str
    split: str
    checkpoint: str
    weights: Literal["raw", "ema"] = "raw"
    tta: bool = False
    windows: tuple[int, int] | None = None
    classes: tuple[str, ...] = Field(min_length=1)
    num_samples: int = Field(ge=0)
    num_skipped: int = Field(default=0, ge=0)
    metrics: dict[str, Number]
    per_class: tuple[ClassScores, ...]
    confusion: tuple[tuple[Annotated[int, Field(ge=0)], ...], ...]

    counted: ClassVar[str] = "num_samples"  # the field that is the sum of confusion

    @property
    def shown_confusion(self) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
        """Names and counts of the matrix that a page shows."""
        return self.classes, self.confusion

    @model_validator(mode="after")
    def _sizes_agree(self) -> "Evaluation":
        size = len(self.classes)
        if len(self.confusion) != size or any(len(row) != size for row in self.confusion):
            raise ValueError(f"confusion must be {size} x {size}, as there are {size} classes")
        if tuple(row.name for row in self.per_class) != self.classes:
            raise ValueError("per_class must have one row for each class, in the same order")
        if sum(map(sum, self.confusion)) != getattr(self, self.counted):
            raise ValueError(f"{self.counted} must be the sum of confusion")
        return self
