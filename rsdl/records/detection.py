"""The evaluation of detection, as ``report.json`` has it."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from rsdl.records.evaluation_base import ClassScores, DataUri, Evaluation, Number, Page, Shown

Size = Literal["small", "medium", "large"]
BACKGROUND = "background"  # in a confusion matrix of detections


class SizeScores(Page):
    """Objects of one size, in area: small up to 32 x 32 px, large above 96 x 96 px.

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


class ErrorCounts(Page):
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


class MergedScores(Page):
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
