"""The result of an evaluation: the content of ``report.json``, of any task."""

from typing import ClassVar, Literal

from pydantic import BaseModel, Field, ValidationError

from rsdl.config.task import TaskName
from rsdl.core.versions import document_error
from rsdl.records.detection import DetectionEvaluation
from rsdl.records.evaluation_base import DataUri, Evaluation, Number, Page, Share, Shown

REPORT = "report.json"
TTA_REPORT = "report-tta.json"  # a file of its own, so that it never overwrites the plain result


class Task(BaseModel):
    """The task of a page, whose other fields depend on it."""

    task: TaskName = "classification"


class CalibrationBin(Page):
    """Samples whose confidence lies in ``(low, high]``, with their mean confidence and accuracy."""

    low: Share
    high: Share
    count: int = Field(ge=0)
    confidence: Number
    accuracy: Number


class RunnerUp(Page):
    """The second most probable class and its probability."""

    name: str
    probability: Share


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


class SceneScores(Page):
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
