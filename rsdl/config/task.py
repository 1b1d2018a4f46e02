"""The learning tasks: what every room may know of each, and the config that selects one."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
)

LossName = Literal["cross_entropy", "focal", "dice", "lovasz"]
# What begins with "smp/" is a decoder of segmentation_models_pytorch; see rsdl/models/heads.
HeadName = Literal[
    "fpn", "upernet", "smp/unet", "smp/unetplusplus", "smp/manet", "smp/linknet", "smp/fpn",
    "smp/upernet", "smp/segformer", "smp/dpt", "smp/pspnet", "smp/deeplabv3", "smp/deeplabv3plus",
    "smp/pan",
]  # fmt: skip

DetectionHeadName = Literal[
    "dense", "fcos", "retinanet", "faster_rcnn", "deformable_detr", "rt_detr_v2"
]
DENSE_DEPTH = 2
TORCHVISION_HEADS = ("fcos", "retinanet", "faster_rcnn")
# Those of transformers, with the levels of their papers.
DETR_LEVELS = {"deformable_detr": (3, 6), "rt_detr_v2": (3, 5)}


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What reports, manifests and commands know of a task without loading PyTorch.

    Attributes:
        target: Kind of target that a data set must have; see ``rsdl/data/targets``.
        primary_metric: Metric that ranks runs and selects the best checkpoint; higher is better.
        label: Name of the primary metric in tables, as ``OA``.
        title: Name of the primary metric in prose, as ``overall accuracy``.
        mixes: Whether images may be mixed in pairs, by mixup or CutMix.
    """

    target: str
    primary_metric: str
    label: str
    title: str
    mixes: bool = False


TaskName = Literal["classification", "segmentation", "detection"]
BoxKind = Literal["aligned", "oriented"]
TASKS = {
    "classification": TaskFacts("class_index", "oa", "OA", "overall accuracy", mixes=True),
    "segmentation": TaskFacts("mask", "miou", "mIoU", "mean intersection over union"),
    "detection": TaskFacts("objects", "map", "mAP", "mean average precision"),
}
# As papers on oriented boxes report: their sides say less about a detector than its finds.
ORIENTED = TaskFacts("objects", "ap50", "AP50", "average precision at IoU 0.5")


def find_facts(task: str, boxes: BoxKind | None = None) -> TaskFacts:
    """Return the facts of a task; of detection they depend on the kind of boxes."""
    return ORIENTED if boxes == "oriented" else TASKS[task]


def metric_label(tasks: Iterable[TaskFacts]) -> str:
    """Return the label of the primary metric; those of several tasks are joined by slashes."""
    return "/".join(dict.fromkeys(facts.label for facts in tasks))


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: TaskName

    @property
    def facts(self) -> TaskFacts:
        """The task's entry in ``TASKS``."""
        return TASKS[self.name]

    def for_inference(self) -> Self:
        """Return the config of the network that is used after training."""
        return self


class ClassificationConfig(_Config):
    """One class for a whole image."""

    name: Literal["classification"] = Field("classification", description="The task.")
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Share of the target spread over all classes in training."
    )


class SegmentationConfig(_Config):
    """A class for each pixel."""

    name: Literal["segmentation"] = Field(description="The task.")
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Share of the target spread over all classes in training."
    )
    head: HeadName = Field(
        "fpn",
        description="Head on the backbone's maps: fpn (semantic FPN), upernet (UPerNet, larger), "
        'or smp/NAME, a decoder of segmentation_models_pytorch (pip install "rsdl-train[smp]"); '
        "docs/heads.md says which fit which backbone.",
    )
    head_width: int | None = Field(
        None,
        ge=32,
        multiple_of=32,
        description="Channels of the head; null: as in its paper or in smp, 128 for fpn and 256 "
        "for upernet and smp/unet.",
    )
    auxiliary_weight: float = Field(
        0.0,
        ge=0,
        description="Deep supervision: weight in the training loss of a second, small head on the "
        "map at stride 16, which is trained only, 0.4 in most papers; 0: none.",
    )
    freeze_norm: bool = Field(
        False, description="Keep the statistics of the backbone's batch norms: for small batches."
    )
    losses: dict[LossName, Annotated[float, Field(gt=0)]] = Field(
        {"cross_entropy": 1.0},
        min_length=1,
        description="Losses and their weights in the sum: cross_entropy, focal, dice, lovasz; "
        "those that are named replace the default.",
    )
    class_weights: Literal["none", "balanced"] | tuple[Annotated[float, Field(gt=0)], ...] = Field(
        "none",
        description="Weight of each class in cross_entropy and focal: one a class; balanced: the "
        "inverse of the root of its share of the train pixels; none: all alike.",
    )
    focal_gamma: float = Field(2.0, ge=0, description="Exponent of the focal loss.")
    boundary_px: int = Field(
        2, ge=1, le=50, description="Pixels within which a boundary counts as found."
    )

    def for_inference(self) -> Self:
        """Return the config without the second head, which is for training alone."""
        return self.model_copy(update={"auxiliary_weight": 0.0})


class DetectionConfig(_Config):
    """A box and a class for each object."""

    name: Literal["detection"] = Field(description="The task.")
    boxes: BoxKind = Field(
        "aligned",
        description="aligned: upright boxes around what is visible; oriented: smallest rectangles "
        "at any angle.",
    )
    head: DetectionHeadName = Field(
        "dense",
        description="Head on the pyramid's maps: dense (anchor-free, after RTMDet, any boxes), or, "
        "for aligned boxes alone, torchvision's fcos, retinanet or faster_rcnn, and transformers' "
        'deformable_detr or rt_detr_v2, without NMS (pip install "rsdl-train[detr]").',
    )
    levels: tuple[Annotated[int, Field(ge=2, le=3)], Annotated[int, Field(ge=5, le=7)]] = Field(
        default_factory=lambda data: DETR_LEVELS.get(data.get("head"), (3, 7)),
        description="Finest and coarsest map of the pyramid; level 3 has one cell for 2^3 px. "
        "[2, 6] for small objects. Default: [3, 7]; [3, 6] for deformable_detr; [3, 5] for "
        "rt_detr_v2, which takes [2, 5], too.",
    )
    head_width: int = Field(256, ge=32, multiple_of=32, description="Channels of pyramid and head.")
    head_depth: int = Field(
        default_factory=lambda data: 6 if data.get("head") in DETR_LEVELS else DENSE_DEPTH,
        ge=1,
        le=8,
        description="Convolutions before each prediction of dense, 2 by default; layers of the "
        "decoder of rt_detr_v2, and of encoder and decoder of deformable_detr, 6 by default; "
        "torchvision's heads have their own.",
    )
    score_threshold: float = Field(
        0.05, ge=0, lt=1, description="Lowest score of a detection that is kept."
    )
    nms_iou: float | None = Field(
        None,
        gt=0,
        le=1,
        description="IoU above which the lower of two detections of a class is dropped; null: 0.1 "
        "for oriented boxes, 0.6 for aligned ones.",
    )
    max_detections: int = Field(
        300,
        ge=1,
        le=5000,
        description="Detections of an image that are kept, the best ones; also the queries of "
        "deformable_detr and rt_detr_v2.",
    )
    freeze_norm: bool = Field(
        False, description="Keep the statistics of the backbone's batch norms: for small batches."
    )

    @field_validator("head")
    @classmethod
    def _boxes_fit(cls, head: str, info: ValidationInfo) -> str:
        if head != "dense" and info.data.get("boxes") == "oriented":
            raise ValueError("finds aligned boxes only; set task.boxes=aligned, or task.head=dense")
        return head

    @field_validator("levels")
    @classmethod
    def _levels_fit(cls, levels: tuple[int, int], info: ValidationInfo) -> tuple[int, int]:
        if info.data.get("head") == "rt_detr_v2" and levels[1] != DETR_LEVELS["rt_detr_v2"][1]:
            raise ValueError(f"end at 5 with rt_detr_v2; set task.levels=[{levels[0]},5]")
        return levels

    @field_validator("head_depth")
    @classmethod
    def _depth_has_an_effect(cls, depth: int, info: ValidationInfo) -> int:
        if info.data.get("head") in TORCHVISION_HEADS and depth != DENSE_DEPTH:
            raise ValueError(
                f"has no effect on {info.data['head']}, which has its own; leave it out"
            )
        return depth

    @property
    def facts(self) -> TaskFacts:
        """Facts of detection with these boxes."""
        return find_facts(self.name, self.boxes)

    @property
    def is_oriented(self) -> bool:
        """Whether boxes have an angle."""
        return self.boxes == "oriented"

    @property
    def iou_of_nms(self) -> float:
        """``nms_iou``, or the default for this kind of boxes."""
        return self.nms_iou or (0.1 if self.is_oriented else 0.6)


def _name_of(value: object) -> str:
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    return str(name or "classification")


CONFIGS: dict[str, type[BaseModel]] = {
    "classification": ClassificationConfig,
    "segmentation": SegmentationConfig,
    "detection": DetectionConfig,
}
TaskConfig = Annotated[
    Annotated[ClassificationConfig, Tag("classification")]
    | Annotated[SegmentationConfig, Tag("segmentation")]
    | Annotated[DetectionConfig, Tag("detection")],
    Discriminator(_name_of),
]
