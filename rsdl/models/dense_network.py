"""What segmenters and detectors share: a backbone, its padding, its frozen norms and its layers."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch.nn.functional as F
from torch import Tensor, nn

from rsdl.config.model import ModelConfig
from rsdl.core.image_size import ImageSize, height_width
from rsdl.models.catalog import build_backbone, find_timm_name
from rsdl.storage.s3.endpoint import AWS, StorageConfig

# Sides of MaxViT's windows and grids; by default they grow with the image, and with them its cost.
WINDOWS = (7, 8)
MAXVIT_STRIDE = 32
STEP = 32  # stride of the coarsest map
PREFIX = r"^backbone\.model\."


class DenseNetwork(nn.Module):
    """A backbone whose maps a ``decoder`` reads, which a subclass adds.

    Args:
        backbone: Network that returns maps, as :func:`rsdl.models.catalog.build_backbone` makes it.
        padded_size: Size that images are padded to, at the bottom and on the right, for the
            backbone's strides and windows.
        freeze_norm: Whether the backbone's batch norms keep their statistics.
    """

    def __init__(self, backbone: nn.Module, *, padded_size: ImageSize, freeze_norm: bool) -> None:
        super().__init__()
        self.backbone = backbone
        self.padded_size = height_width(padded_size)
        self.freeze_norm = freeze_norm
        self.train(self.training)  # Lightning keeps the modes that it finds

    def pad(self, images: Tensor) -> Tensor:
        """Return images padded with zeros at the bottom and on the right."""
        height, width = images.shape[2:]
        padded = max(height, self.padded_size[0]), max(width, self.padded_size[1])
        if padded == (height, width):
            return images
        return F.pad(images, (0, padded[1] - width, 0, padded[0] - height))

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return the layers of the backbone as timm's layer decay wants them; the rest is above."""
        layers: dict[str, Any] = self._inner().group_matcher(coarse=coarse)  # type: ignore[operator]

        def move(pattern: str) -> str:
            return PREFIX + "(?:" + re.sub(r"(^|\|)\^", r"\1", pattern) + ")"

        return {
            name: move(found)
            if isinstance(found, str)
            else [(move(pattern), group) for pattern, group in found]
            for name, found in layers.items()
        }

    def no_weight_decay(self) -> set[str]:
        """Return the weights of the backbone that are not decayed, such as position embeddings."""
        names: set[str] = getattr(self._inner(), "no_weight_decay", set)()
        return {f"backbone.model.{name}" for name in names}

    def _inner(self) -> nn.Module:
        """Return timm's network in the wrapper that returns its maps."""
        return self.backbone.get_submodule("model")

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all layers; frozen batch norms stay in evaluation."""
        super().train(mode)
        if mode and self.freeze_norm:
            for module in self.backbone.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self


def build_padded_backbone(
    config: ModelConfig,
    *,
    in_chans: int,
    image_size: ImageSize,
    storage: StorageConfig = AWS,
    bands: Sequence[str] = (),
    options: Mapping[str, int] | None = None,
) -> tuple[nn.Module, tuple[int, int]]:
    """Return a backbone for images of any size, and the size that they are padded to for it.

    Args:
        config: Name and weights of the backbone.
        in_chans: Bands of the data set.
        image_size: Size of the images.
        storage: Endpoint of the object store, if the weights are in a bucket.
        bands: Names of the data set's bands.
        options: Further arguments of the network in timm.

    Raises:
        ConfigError: As :func:`rsdl.models.catalog.build_backbone`.
    """
    padded, given = pad_size(find_timm_name(config.name), image_size)
    backbone = build_backbone(
        config, in_chans=in_chans, image_size=padded, storage=storage, bands=bands,
        options=given | dict(options or {}),
    )  # fmt: skip
    return backbone, padded


def pad_size(timm_name: str, image_size: ImageSize) -> tuple[tuple[int, int], dict[str, int]]:
    """Return the size that images are padded to for a backbone, and timm's options for it.

    MaxViT takes multiples of 32 windows: 7 or 8 px, whichever pads less, or, of an image that is
    smaller than that, one window of the whole.
    """
    height, width = height_width(image_size)

    def pad(step: int) -> tuple[int, int]:
        return -(-height // step) * step, -(-width // step) * step

    if not timm_name.startswith("maxvit"):
        return pad(STEP), {}
    whole = max(pad(MAXVIT_STRIDE)) // MAXVIT_STRIDE
    windows = WINDOWS if whole >= min(WINDOWS) else (whole,)
    window = min(windows, key=lambda side: math.prod(pad(side * MAXVIT_STRIDE)))
    sides = {"transformer_window_size": window, "transformer_grid_size": window}
    return pad(window * MAXVIT_STRIDE), sides
