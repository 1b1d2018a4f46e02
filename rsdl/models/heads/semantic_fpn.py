"""Semantic FPN: the maps of a feature pyramid, each brought to the finest, and added up.

Source: Kirillov et al. 2019, "Panoptic Feature Pyramid Networks", section 3 (group normalisation
and 128 channels as there).
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

GROUPS = 32


class SemanticFpn(nn.Module):
    """Maps at strides 4, 8, 16 and 32 to logits at stride 4.

    Args:
        channels: Channels of each map, fine to coarse.
        num_classes: Classes of the data set.
        width: Channels of the head, a multiple of 32; the pyramid has twice as many.
        dropout: Share of the channels dropped before the classifier.
    """

    def __init__(
        self, channels: Sequence[int], num_classes: int, width: int = 128, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.neck = FeaturePyramidNetwork(list(channels), 2 * width)
        # A map of stride 2^k * 4 is doubled k times; the finest gets one convolution, too.
        self.branches = nn.ModuleList(
            nn.Sequential(
                *(
                    block(2 * width if step == 0 else width, width, double=level > 0)
                    for step in range(max(level, 1))
                )
            )
            for level in range(len(channels))
        )
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return logits ``[B, num_classes, H/4, W/4]``."""
        pyramid = self.neck({str(level): each for level, each in enumerate(maps)}).values()
        summed: Tensor | None = None
        for branch, each in zip(self.branches, pyramid, strict=True):
            raised = branch(each)
            summed = raised if summed is None else summed + fit(raised, summed)
        assert summed is not None
        logits: Tensor = self.classifier(self.dropout(summed))
        return logits


def block(channels: int, width: int, *, double: bool = False, kernel: int = 3) -> nn.Sequential:
    """Return a convolution with group normalisation and ReLU, which may double the map's sides."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False),
        # Several channels a group: of one channel of a 1 x 1 map nothing would be left.
        nn.GroupNorm(min(GROUPS, width // 4), width),
        nn.ReLU(inplace=True),
    ]
    if double:
        layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
    return nn.Sequential(*layers)


def fit(source: Tensor, target: Tensor) -> Tensor:
    """Return a map resized to the height and width of another."""
    if source.shape[2:] == target.shape[2:]:
        return source
    return F.interpolate(source, size=target.shape[2:], mode="bilinear", align_corners=False)
