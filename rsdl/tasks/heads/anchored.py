"""What torchvision's heads that differ from anchors have in common."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from rsdl.config.task import DetectionConfig
from rsdl.models.detector import strides_of
from rsdl.models.heads.anchors import RATIOS, build_anchors, lay_anchors
from rsdl.tasks.assignment import levels_of
from rsdl.tasks.heads.candidates import num_candidates


class AnchoredDetection:
    """The anchors of a head, and how many candidates are kept; see :class:`DetectionHead`.

    Memory of the assignment is O(anchors x objects), one image at a time.

    Attributes:
        scales: Sides of square anchors in cells.
    """

    needs_nms = True
    scales: ClassVar[Sequence[float]]

    def __init__(
        self, config: DetectionConfig, image_size: tuple[int, int], mean_objects: float
    ) -> None:
        self.image_size, self.kept = image_size, num_candidates(config)
        self.strides = strides_of(config)
        self.grids = [level[1:3] for level in levels_of(image_size, self.strides)]
        self.anchors = build_anchors(self.strides, self.scales, RATIOS)

    def _anchors(self, logits: Tensor) -> Tensor:
        """Return the anchors ``[N, 4]`` that logits ``[B, N, ...]`` are of."""
        anchors = lay_anchors(self.anchors, self.grids, self.strides, logits.device)
        assert logits.shape[1] == len(anchors), "of another network"
        return anchors
