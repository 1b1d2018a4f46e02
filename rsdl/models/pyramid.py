"""Maps at strides 4, 8, 16 and 32 from any backbone.

CNNs and hierarchical transformers have such maps. A plain transformer has one map, of which the
simple feature pyramid of ViTDet makes four (Li et al. 2022, "Exploring Plain Vision Transformer
Backbones for Object Detection", section 3).
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from rsdl.core.errors import ConfigError

STRIDES = (4, 8, 16, 32)


class Pyramid(nn.Module):
    """Feature maps of a backbone to one map for each of ``STRIDES``.

    Args:
        reductions: Stride of each of the backbone's maps.
        channels: Channels of each.
        name: Name of the network, for errors.

    Attributes:
        channels: Channels of the maps that it returns, fine to coarse.

    Raises:
        ConfigError: If the backbone has neither maps at all four strides nor a single scale.
    """

    def __init__(self, reductions: Sequence[int], channels: Sequence[int], name: str) -> None:
        super().__init__()
        self.single = len(set(reductions)) == 1
        if self.single:
            width = channels[-1]
            self.finest = nn.Sequential(
                nn.ConvTranspose2d(width, width // 2, 2, 2),
                nn.GroupNorm(1, width // 2),
                nn.GELU(),
                nn.ConvTranspose2d(width // 2, width // 4, 2, 2),
            )
            self.finer = nn.ConvTranspose2d(width, width // 2, 2, 2)
            self.channels = (width // 4, width // 2, width, width)
            return
        missing = [stride for stride in STRIDES if stride not in reductions]
        if missing:
            raise ConfigError(
                "model.name",
                f"{name} has maps at strides {', '.join(map(str, reductions))}, and a pyramid "
                f"needs {missing[0]}",
                "use one of the nine, or a network with strides 4, 8, 16 and 32",
            )
        # The last map of a stride has seen most.
        self.picked = [
            max(place for place, found in enumerate(reductions) if found == stride)
            for stride in STRIDES
        ]
        self.channels = tuple(channels[place] for place in self.picked)  # type: ignore[assignment]

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return four maps ``[B, D, H/s, W/s]``, fine to coarse."""
        if not self.single:
            return [maps[place] for place in self.picked]
        only = maps[-1]
        return [self.finest(only), self.finer(only), only, F.max_pool2d(only, 2)]
