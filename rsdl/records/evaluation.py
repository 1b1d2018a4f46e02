"""The result of an evaluation: the content of ``report.json``.

Undefined numbers (the recall of a class without samples, a loss that overflowed) are ``None``,
since JSON has no NaN and a reader must not mistake "unknown" for zero.
"""

import math
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from rsdl.core.versions import document_error

REPORT = "report.json"
TTA_REPORT = "report-tta.json"  # a file of its own, so that it never overwrites the plain result


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Number = Annotated[float | None, BeforeValidator(_finite)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Page(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ClassScores(_Page):
    """Metrics of one class.

    Attributes:
        support: Samples of this true class.
        precision: Correct share of the predictions of this class; ``None`` without predictions.
        recall: Correct share of ``support``; ``None`` without support.
        f1: Harmonic mean of both; ``None`` if no sample has or is predicted as this class.
    """

    name: str
    support: int = Field(ge=0)
    precision: Number
    recall: Number
    f1: Number


class CalibrationBin(_Page):
    """Samples whose confidence lies in ``(low, high]``, with their mean confidence and accuracy."""

    low: Share
    high: Share
    count: int = Field(ge=0)
    confidence: Number
    accuracy: Number


class RunnerUp(_Page):
    """The second most probable class and its probability."""

    name: str
    probability: Share


class Picture(_Page):
    """One sample shown in the report.

    Attributes:
        key: Name of the sample in its shard.
        source: File that the sample was made from.
        label: True class, by name.
        predicted: Predicted class, by name.
        confidence: Probability of the predicted class.
        image: Thumbnail as a ``data:`` URI; no other URI, so that a report makes no requests.
        crs: Coordinate reference system of ``bounds``.
        bounds: Left, bottom, right and top in units of ``crs``.
    """

    key: str
    source: str
    label: str
    predicted: str
    confidence: Share
    runner_up: RunnerUp | None = None
    image: str | None = Field(
        default=None, pattern=r"^data:image/(png|jpeg|webp);base64,[A-Za-z0-9+/]+=*$"
    )
    crs: str | None = None
    bounds: tuple[float, float, float, float] | None = None


class Evaluation(_Page):
    """The result of evaluating one checkpoint on one split.

    Attributes:
        run: Name of the run.
        checkpoint: Checkpoint that was evaluated.
        weights: ``raw`` for the trained weights, ``ema`` for their moving average.
        tta: Whether predictions were averaged over flipped and rotated copies.
        num_samples: Evaluated samples, the sum of ``confusion``.
        num_skipped: Samples that could not be decoded.
        metrics: By name; values in ``[0, 1]``: ``oa``, ``balanced_accuracy``, ``kappa`` (down to
            -1), ``macro_f1``, ``top5``, ``ece``; and ``loss``.
        per_class: One row for each class, in the order of ``classes``.
        confusion: Samples by true class (rows) and predicted class (columns), ``[C][C]``.
        mistakes: Wrong predictions, the most confident first.
        uncertain: Predictions with the smallest margin to the runner-up, smallest first.
    """

    format: Literal[1] = 1
    task: Literal["classification"] = "classification"
    run: str
    split: str
    checkpoint: str
    weights: Literal["raw", "ema"] = "raw"
    tta: bool = False
    classes: tuple[str, ...] = Field(min_length=1)
    num_samples: int = Field(ge=0)
    num_skipped: int = Field(default=0, ge=0)
    metrics: dict[str, Number]
    per_class: tuple[ClassScores, ...]
    confusion: tuple[tuple[Annotated[int, Field(ge=0)], ...], ...]
    calibration: tuple[CalibrationBin, ...] = ()
    mistakes: tuple[Picture, ...] = ()
    uncertain: tuple[Picture, ...] = ()

    @model_validator(mode="after")
    def _sizes_agree(self) -> "Evaluation":
        size = len(self.classes)
        if len(self.confusion) != size or any(len(row) != size for row in self.confusion):
            raise ValueError(f"confusion must be {size} x {size}, as there are {size} classes")
        if tuple(row.name for row in self.per_class) != self.classes:
            raise ValueError("per_class must have one row for each class, in the same order")
        if sum(map(sum, self.confusion)) != self.num_samples:
            raise ValueError("num_samples must be the sum of confusion")
        return self


def parse_evaluation(data: bytes, where: str) -> Evaluation:
    """Return the evaluation that ``report.json`` holds.

    Raises:
        DataError: If ``data`` is no valid evaluation; the message names the first wrong field.
    """
    try:
        return Evaluation.model_validate_json(data)
    except ValidationError as error:
        remedy = 'make it again with "rsdl evaluate RUN"'
        raise document_error(
            error, where, reads=1, what="", whole="the page", remedy=remedy
        ) from error
