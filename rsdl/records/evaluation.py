"""The result of an evaluation: the content of ``report.json``.

Undefined numbers (the recall of a class without samples, a loss that overflowed) are ``None``,
since JSON has no NaN and a reader must not mistake "unknown" for zero.
"""

import math
from typing import Annotated, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from rsdl.config.task import TaskName
from rsdl.core.versions import document_error

REPORT = "report.json"
TTA_REPORT = "report-tta.json"  # a file of its own, so that it never overwrites the plain result


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Number = Annotated[float | None, BeforeValidator(_finite)]
Size = Literal["small", "medium", "large"]
Share = Annotated[float, Field(ge=0, le=1)]
BACKGROUND = "background"  # in a confusion matrix of detections
DataUri = Annotated[str, Field(pattern=r"^data:image/(png|jpeg|webp);base64,[A-Za-z0-9+/]+=*$")]


class _Page(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Task(BaseModel):
    """The task of a page, whose other fields depend on it."""

    task: TaskName = "classification"


class ClassScores(_Page):
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


class Shown(_Page):
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


class Picture(Shown):
    """One classified sample.

    Attributes:
        label: True class, by name.
        predicted: Predicted class, by name.
        confidence: Probability of the predicted class.
    """

    label: str
    predicted: str
    confidence: Share
    runner_up: RunnerUp | None = None


class Overlay(Shown):
    """One segmented sample; the pictures are of the image as the network saw it.

    Attributes:
        rank: Whether it is one of the best, median or worst images.
        miou: Its mean IoU, over the classes that are true or predicted in it.
        truth: The true classes, drawn over the image.
        predicted: The predicted classes, drawn over the image.
        error: The image, with wrong pixels marked.
    """

    rank: Literal["best", "median", "worst"]
    miou: Share
    truth: DataUri | None = None
    predicted: DataUri | None = None
    error: DataUri | None = None


class SizeScores(_Page):
    """Objects of one size, in area: small below 32 x 32 px, large from 96 x 96 px.

    Attributes:
        objects: True objects of the size.
        recall: Share of them that was found; ``None`` without objects.
    """

    objects: int = Field(ge=0)
    recall: Number


class DetectionScores(ClassScores):
    """Metrics of one class of objects.

    Precision, recall and F1 are those of the detections with at least ``score``, at IoU 0.5.

    Attributes:
        support: Objects, without those that are difficult or ignored.
        ap: Average precision, the mean over IoU thresholds 0.5, 0.55 .. 0.95.
        ap50: Average precision at IoU 0.5.
        ap75: Average precision at IoU 0.75.
        score: The score that maximises F1; that over all classes if none of this class is correct.
        sizes: The objects by size: ``small``, ``medium``, ``large``.
    """

    ap: Number
    ap50: Number
    ap75: Number
    score: Number
    sizes: dict[Size, SizeScores]


class ErrorCounts(_Page):
    """Kinds of errors, after TIDE (Bolya et al. 2020), of one class or of all.

    Attributes:
        label: In place (IoU of at least 0.5), but of another class than the object.
        place: Of the right class, but out of place (IoU from 0.1 to 0.5).
        both: Of another class, and out of place.
        duplicate: In place on an object that a better detection found.
        background: On nothing (IoU below 0.1).
        missed: Objects that no detection found or took for another class or place.
    """

    label: int = Field(0, ge=0)
    place: int = Field(0, ge=0)
    both: int = Field(0, ge=0)
    duplicate: int = Field(0, ge=0)
    background: int = Field(0, ge=0)
    missed: int = Field(0, ge=0)


class MergedScores(_Page):
    """The metrics over whole images, whose tiles were merged.

    Attributes:
        num_images: Images that the tiles were cut from.
        num_objects: Objects of the images, each once; none that are difficult or ignored, as are
            those that every tile cuts.
        metrics: Those of the tiles, without ``loss``.
        ap50: Average precision at IoU 0.5 of each class, ``[C]``.
    """

    num_images: int = Field(ge=1)
    num_objects: int = Field(ge=0)
    metrics: dict[str, Number]
    ap50: tuple[Number, ...]


class Detections(Shown):
    """One image with its objects, as the network saw it.

    Attributes:
        found: Objects that were found.
        wrong: Detections that are wrong.
        missed: Objects that were not found.
        truth: The image with the true objects.
        predicted: The image with the detections.
    """

    found: int = Field(ge=0)
    wrong: int = Field(ge=0)
    missed: int = Field(ge=0)
    truth: DataUri | None = None
    predicted: DataUri | None = None


class SceneScores(_Page):
    """The scores of one scene, over all of its tiles.

    Attributes:
        name: Name of the scene, or of the image's file.
        num_samples: Tiles of the scene that were evaluated.
        num_pixels: Its pixels with a class.
        miou: Mean IoU over the classes that are true or predicted in it.
        oa: Correct share of its pixels.
    """

    name: str
    num_samples: int = Field(ge=1)
    num_pixels: int = Field(ge=0)
    miou: Number
    oa: Share


class Evaluation(_Page):
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


class ClassificationEvaluation(Evaluation):
    """That of scene classification; ``confusion`` counts samples.

    Attributes:
        metrics: Values in ``[0, 1]``: ``oa``, ``balanced_accuracy``, ``kappa`` (down to -1),
            ``macro_f1``, ``top5``, ``ece``; and ``loss``.
        mistakes: Wrong predictions, the most confident first.
        uncertain: Predictions with the smallest margin to the runner-up, smallest first.
    """

    task: Literal["classification"] = "classification"
    calibration: tuple[CalibrationBin, ...] = ()
    mistakes: tuple[Picture, ...] = ()
    uncertain: tuple[Picture, ...] = ()


class SegmentationEvaluation(Evaluation):
    """That of segmentation; ``confusion`` and each class's ``support`` count pixels.

    Attributes:
        metrics: Values in ``[0, 1]``: ``miou``, ``oa``, ``kappa`` (down to -1), ``macro_f1``,
            ``fw_iou``, ``boundary_f1``; and ``loss``.
        num_pixels: Pixels with a class, the sum of ``confusion``.
        iou: Intersection over union of each class; ``None`` if it is neither true nor predicted.
        overlays: The best, median and worst images.
        scenes: The scores of the 100 worst scenes, the worst first.
        num_scenes: Scenes of the split; 0 if they were not told apart.
    """

    task: Literal["segmentation"] = "segmentation"
    num_pixels: int = Field(ge=0)
    iou: tuple[Number, ...]
    overlays: tuple[Overlay, ...] = ()
    scenes: tuple[SceneScores, ...] = ()
    num_scenes: int = Field(default=0, ge=0)

    counted: ClassVar[str] = "num_pixels"


class DetectionEvaluation(Evaluation):
    """That of detection; ``confusion`` counts the objects that were found, of any class.

    With ``unmatched_objects`` it has every object once, and with ``unmatched_detections`` every
    detection that counts: of at least its class's score in ``per_class``, on no ignored object.

    Attributes:
        metrics: Values in ``[0, 1]``: ``map``, ``ap50``, ``ap75``, ``voc07``, ``voc12``,
            ``map_small``, ``map_medium``, ``map_large``; and ``loss``.
        oriented: Whether boxes have an angle.
        num_found: The sum of ``confusion``.
        unmatched_objects: Objects of each class that nothing was found on, ``[C]``.
        unmatched_detections: Detections of each class on no object or one found before, ``[C]``.
        errors: Kinds of errors of each class, ``[C]``: of detections by the class they say.
        curves: Precision at recall 0, 0.01 .. 1 and IoU 0.5, ``[C][101]``; empty for a class
            without objects.
        pictures: The images with the most errors, the worst first.
        merged: The metrics over whole images, if the samples are tiles of images.
        num_cut: Objects beyond those that an evaluation keeps of an image; they are in the metrics,
            but not in what is counted here.
    """

    task: Literal["detection"] = "detection"
    oriented: bool
    per_class: tuple[DetectionScores, ...]
    num_found: int = Field(ge=0)
    unmatched_objects: tuple[Annotated[int, Field(ge=0)], ...]
    unmatched_detections: tuple[Annotated[int, Field(ge=0)], ...]
    errors: tuple[ErrorCounts, ...]
    curves: tuple[tuple[Number, ...], ...]
    pictures: tuple[Detections, ...] = ()
    merged: MergedScores | None = None
    num_cut: int = Field(default=0, ge=0)

    counted: ClassVar[str] = "num_found"

    @property
    def shown_confusion(self) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
        """Names and counts with the background as the last row and column."""
        rows = zip(self.confusion, self.unmatched_objects, strict=True)
        counts = *((*row, rest) for row, rest in rows), (*self.unmatched_detections, 0)
        return (*self.classes, BACKGROUND), counts

    @model_validator(mode="after")
    def _one_of_each_class(self) -> "DetectionEvaluation":
        for name in ("unmatched_objects", "unmatched_detections", "errors", "curves"):
            if len(getattr(self, name)) != len(self.classes):
                raise ValueError(f"{name} must have one entry for each class")
        return self


KINDS: dict[str, type[Evaluation]] = {
    "classification": ClassificationEvaluation,
    "segmentation": SegmentationEvaluation,
    "detection": DetectionEvaluation,
}


def parse_evaluation(data: bytes, where: str) -> Evaluation:
    """Return the evaluation that ``report.json`` holds.

    Raises:
        DataError: If ``data`` is no valid evaluation; the message names the first wrong field.
    """
    try:
        task = Task.model_validate_json(data).task
        return KINDS[task].model_validate_json(data)
    except ValidationError as error:
        remedy = 'make it again with "rsdl evaluate RUN"'
        raise document_error(
            error, where, reads=1, what="", whole="the page", remedy=remedy
        ) from error
