"""The heads of detection by name, and what their outputs mean."""

from collections.abc import Callable

from rsdl.config.task import DetectionConfig
from rsdl.tasks.heads.base import DetectionHead
from rsdl.tasks.heads.dense import DenseDetection
from rsdl.tasks.heads.detr import DetrDetection

# Config of the task, height and width of the images, classes, mean objects of a train image.
HEADS: dict[str, Callable[[DetectionConfig, tuple[int, int], int, float], DetectionHead]] = {
    "dense": DenseDetection,
    "deformable_detr": DetrDetection,
    "rt_detr_v2": DetrDetection,
}
