"""The heads of detection by name, and what their outputs mean."""

from collections.abc import Callable

from rsdl.config.task import DetectionConfig
from rsdl.tasks.heads.base import DetectionHead
from rsdl.tasks.heads.dense import DenseDetection
from rsdl.tasks.heads.detr import DetrDetection
from rsdl.tasks.heads.faster_rcnn import FasterRcnnDetection
from rsdl.tasks.heads.fcos import FcosDetection
from rsdl.tasks.heads.retinanet import RetinaNetDetection

# Config of the task, height and width of the images, mean objects of a train image.
HEADS: dict[str, Callable[[DetectionConfig, tuple[int, int], float], DetectionHead]] = {
    "dense": DenseDetection,
    "fcos": FcosDetection,
    "retinanet": RetinaNetDetection,
    "faster_rcnn": FasterRcnnDetection,
    "deformable_detr": DetrDetection,
    "rt_detr_v2": DetrDetection,
}
