"""UPerNet: pooled context of the coarsest map, handed down a pyramid whose maps are fused.

Source: Xiao et al. 2018, "Unified Perceptual Parsing for Scene Understanding", section 3.1, with
group normalisation, since a pooled map has one value a channel and batches are small.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rsdl.models.heads.semantic_fpn import block, fit

POOLED = (1, 2, 3, 6)


class UperNet(nn.Module):
    """Maps at strides 4, 8, 16 and 32 to logits at stride 4.

    Args:
        channels: Channels of each map, fine to coarse.
        num_classes: Classes of the data set.
        width: Channels of the head, a multiple of 32.
        dropout: Share of the channels dropped before the classifier.
    """

    def __init__(
        self, channels: Sequence[int], num_classes: int, width: int = 256, dropout: float = 0.1
    ) -> None:
        super().__init__()
        *fine, coarse = channels
        self.pooled = nn.ModuleList(block(coarse, width, kernel=1) for _ in POOLED)
        self.context = block(coarse + len(POOLED) * width, width)
        self.lateral = nn.ModuleList(block(each, width, kernel=1) for each in fine)
        self.smooth = nn.ModuleList(block(width, width) for _ in fine)
        self.fuse = block(len(channels) * width, width)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return logits ``[B, num_classes, H/4, W/4]``."""
        *fine, coarse = maps
        pooled = [
            fit(branch(F.adaptive_avg_pool2d(coarse, side)), coarse)
            for side, branch in zip(POOLED, self.pooled, strict=True)
        ]
        top = self.context(torch.cat((coarse, *pooled), dim=1))
        levels = [top]
        for lateral, each in zip(reversed(self.lateral), reversed(fine), strict=True):
            side = lateral(each)
            levels.insert(0, side + fit(levels[0], side))
        smoothed = [smooth(each) for smooth, each in zip(self.smooth, levels[:-1], strict=True)]
        fused = torch.cat([fit(each, levels[0]) for each in (*smoothed, top)], dim=1)
        logits: Tensor = self.classifier(self.dropout(self.fuse(fused)))
        return logits
