"""A small fully convolutional head: the second head of deep supervision.

Source: Long et al. 2015, "Fully Convolutional Networks for Semantic Segmentation"; as an auxiliary
head Zhao et al. 2017, "Pyramid Scene Parsing Network", section 3.3.
"""

from torch import Tensor, nn

from rsdl.models.heads.semantic_fpn import block


class FcnHead(nn.Module):
    """One map to logits of its own size: a convolution, dropout and a classifier.

    Args:
        channels: Channels of the map.
        num_classes: Classes of the data set.
        width: Channels of the head.
        dropout: Share of the channels dropped before the classifier.
    """

    def __init__(
        self, channels: int, num_classes: int, width: int = 256, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            block(channels, width), nn.Dropout2d(dropout), nn.Conv2d(width, num_classes, 1)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return logits ``[B, num_classes, h, w]`` of a map ``[B, D, h, w]``."""
        logits: Tensor = self.layers(features)
        return logits
