"""The heads of torchvision's FCOS and RetinaNet, for comparison with the dense head.

Sources: Tian et al. 2019, "FCOS"; Lin et al. 2017, "Focal Loss for Dense Object Detection".
"""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn
from torchvision.models.detection.fcos import FCOSClassificationHead, FCOSRegressionHead
from torchvision.models.detection.retinanet import RetinaNetHead as TorchvisionRetinaNetHead

from rsdl.models.heads.anchors import RATIOS
from rsdl.models.heads.dense import GROUPS

RETINANET_SCALES = (4.0, 4 * 2 ** (1 / 3), 4 * 2 ** (2 / 3))  # of anchors, in cells


class FcosHead(nn.Module):
    """Maps of a pyramid to logits, distances and centreness of all of their cells.

    Args:
        width: Channels of the maps.
        num_classes: Classes of the data set.
    """

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        # Several channels a group: of one channel of a 1 x 1 map nothing would be left.
        norm = partial(nn.GroupNorm, min(GROUPS, width // 4))
        self.classification = FCOSClassificationHead(width, 1, num_classes, norm_layer=norm)
        self.regression = FCOSRegressionHead(width, 1, norm_layer=norm)

    def forward(
        self, maps: Sequence[Tensor], strides: Sequence[int], image_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits ``[B, N, num_classes]``, distances ``[B, N, 4]``, centreness ``[B, N, 1]``.

        The distances are those from a cell's centre to the left, top, right and bottom of its box,
        in cells.

        Args:
            maps: Maps of the pyramid, fine to coarse.
            strides: Has no effect, as ``image_size`` has none.
            image_size: Height and width of the images.
        """
        distances, centreness = self.regression(list(maps))
        logits: Tensor = self.classification(list(maps))
        return logits.float(), distances.float(), centreness.float()


class RetinaNetHead(nn.Module):
    """Maps of a pyramid to logits and codes of the anchors of all of their cells.

    Args:
        width: Channels of the maps.
        num_classes: Classes of the data set.
    """

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        each = len(RETINANET_SCALES) * len(RATIOS)
        self.inner = TorchvisionRetinaNetHead(width, each, num_classes)

    def forward(
        self, maps: Sequence[Tensor], strides: Sequence[int], image_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Return logits ``[B, N, num_classes]`` and codes ``[B, N, 4]`` of the anchors.

        Args:
            maps: Maps of the pyramid, fine to coarse.
            strides: Has no effect, as ``image_size`` has none.
            image_size: Height and width of the images.
        """
        found = self.inner(list(maps))
        return found["cls_logits"].float(), found["bbox_regression"].float()
