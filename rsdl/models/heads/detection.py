"""The heads of detection by name, and the maps that each takes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from rsdl.config.task import DetectionConfig
from rsdl.models.heads.dense import DenseHead
from rsdl.models.heads.detr import DeformableDetr, RtDetrV2
from rsdl.models.heads.faster_rcnn import FasterRcnnHead
from rsdl.models.heads.one_stage import FcosHead, RetinaNetHead

# Config of the task, channels of the maps, classes of the data set.
Build = Callable[[DetectionConfig, Sequence[int], int], nn.Module]


@dataclass(frozen=True, slots=True)
class HeadKind:
    """How a head is built.

    The network that ``build`` returns takes maps ``[B, D, H/s, W/s]``, fine to coarse, the stride
    ``s`` of each, and height and width of the images. It returns a tuple of tensors ``[B, ...]``,
    float32: what they mean, ``rsdl/tasks/heads`` knows.

    Attributes:
        build: Returns the network.
        own_neck: Whether it takes the maps of the backbone's pyramid, and not those of an FPN.
    """

    build: Build
    own_neck: bool = False


def _dense(options: DetectionConfig, channels: Sequence[int], num_classes: int) -> nn.Module:
    return DenseHead(
        channels[0], num_classes, len(channels), oriented=options.is_oriented,
        depth=options.head_depth,
    )  # fmt: skip


def _faster_rcnn(options: DetectionConfig, channels: Sequence[int], num_classes: int) -> nn.Module:
    strides = [2 ** (options.levels[0] + number) for number in range(len(channels))]
    return FasterRcnnHead(channels[0], num_classes, strides)


HEADS: dict[str, HeadKind] = {
    "dense": HeadKind(_dense),
    "fcos": HeadKind(lambda options, channels, number: FcosHead(channels[0], number)),
    "retinanet": HeadKind(lambda options, channels, number: RetinaNetHead(channels[0], number)),
    "faster_rcnn": HeadKind(_faster_rcnn),
    "deformable_detr": HeadKind(DeformableDetr, own_neck=True),
    "rt_detr_v2": HeadKind(RtDetrV2, own_neck=True),
}
