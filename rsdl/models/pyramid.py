"""Maps at the strides that a head wants, 4, 8, 16 and 32 for most, from any backbone.

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
    """Feature maps of a backbone to one map for each of the wanted strides.

    Args:
        reductions: Stride of each of the backbone's maps.
        channels: Channels of each.
        name: Name of the network, for errors.
        strides: Strides of the maps wanted, fine to coarse, all of ``STRIDES`` or all but the
            finest; that of a dilated backbone repeats.

    Attributes:
        channels: Channels of the maps that it returns, fine to coarse.

    Raises:
        ConfigError: If the backbone has neither maps at all the strides nor a single scale.
    """

    def __init__(
        self,
        reductions: Sequence[int],
        channels: Sequence[int],
        name: str,
        strides: Sequence[int] = STRIDES,
    ) -> None:
        super().__init__()
        self.single = len(set(reductions)) == 1
        if self.single:
            width = channels[-1]
            # Only what is wanted: DDP refuses parameters without a gradient.
            self.finest = None
            if len(strides) == len(STRIDES):
                self.finest = nn.Sequential(
                    nn.ConvTranspose2d(width, width // 2, 2, 2),
                    nn.GroupNorm(1, width // 2),
                    nn.GELU(),
                    nn.ConvTranspose2d(width // 2, width // 4, 2, 2),
                )
            self.finer = nn.ConvTranspose2d(width, width // 2, 2, 2)
            every = (width // 4, width // 2, width, width)
            self.channels: tuple[int, ...] = every[-len(strides) :]
            return
        # From coarse to fine: the last map of a stride has seen most.
        self.picked: list[int] = []
        end = len(reductions)
        for stride in reversed(strides):
            places = [place for place in range(end) if reductions[place] == stride]
            if not places:
                raise ConfigError(
                    "model.name",
                    f"{name} has maps at strides {', '.join(map(str, reductions))}, and a pyramid "
                    f"needs {stride}",
                    "use one of the nine, or a network with strides 4, 8, 16 and 32",
                )
            end = places[-1]
            self.picked.insert(0, end)
        self.channels = tuple(channels[place] for place in self.picked)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return maps ``[B, D, H/s, W/s]``, fine to coarse."""
        if not self.single:
            return [maps[place] for place in self.picked]
        only = maps[-1]
        fine = [] if self.finest is None else [self.finest(only)]
        return [*fine, self.finer(only), only, F.max_pool2d(only, 2)]
