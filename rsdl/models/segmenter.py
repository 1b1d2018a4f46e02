"""A backbone of any of the nine with a head that labels every pixel."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from rsdl.config.model import ModelConfig
from rsdl.core.image_size import ImageSize, height_width
from rsdl.models.catalog import build_backbone, find_timm_name
from rsdl.models.heads.semantic_fpn import SemanticFpn
from rsdl.models.heads.upernet import UperNet
from rsdl.models.pyramid import Pyramid
from rsdl.storage.s3.endpoint import AWS, StorageConfig

# Sides of MaxViT's windows and grids; by default they grow with the image, and with them its cost.
WINDOWS = (7, 8)
MAXVIT_STRIDE = 32
STEP = 32  # stride of the coarsest map
PREFIX = r"^backbone\.model\."
HEADS: dict[str, Callable[..., nn.Module]] = {"fpn": SemanticFpn, "upernet": UperNet}


class Decoder(nn.Module):
    """What a segmenter has beside its backbone: pyramid and head."""

    def __init__(self, pyramid: Pyramid, head: nn.Module) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.head = head

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Return logits at stride 4 of the backbone's maps."""
        logits: Tensor = self.head(self.pyramid(maps))
        return logits


class Segmenter(nn.Module):
    """Images ``[B, C, H, W]`` to logits ``[B, num_classes, H, W]``.

    Args:
        backbone: Network that returns maps, as :func:`rsdl.models.catalog.build_backbone` makes it.
        head: Name of the head, one of ``HEADS``.
        num_classes: Classes of the data set.
        padded_size: Size that images are padded to, at the bottom and on the right, for the
            backbone's strides and windows.
        width: Channels of the head; ``None`` takes the head's own.
        freeze_norm: Whether batch norms of the backbone keep their statistics in training.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        head: str,
        num_classes: int,
        padded_size: ImageSize,
        width: int | None = None,
        freeze_norm: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        info: Any = backbone.feature_info
        name = type(backbone).__name__
        pyramid = Pyramid(info.reduction(), info.channels(), name)
        options = {} if width is None else {"width": width}
        self.decoder = Decoder(pyramid, HEADS[head](pyramid.channels, num_classes, **options))
        self.padded_size = height_width(padded_size)
        self.freeze_norm = freeze_norm

    def forward(self, images: Tensor) -> Tensor:
        """Return logits of every pixel, float32."""
        height, width = images.shape[2:]
        padded = max(height, self.padded_size[0]), max(width, self.padded_size[1])
        if padded != (height, width):
            images = F.pad(images, (0, padded[1] - width, 0, padded[0] - height))
        logits = self.decoder(self.backbone(images))
        raised = F.interpolate(logits.float(), size=padded, mode="bilinear", align_corners=False)
        return raised[:, :, :height, :width]

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

    def train(self, mode: bool = True) -> "Segmenter":
        """Set the mode of all layers; frozen batch norms stay in evaluation."""
        super().train(mode)
        if mode and self.freeze_norm:
            for module in self.backbone.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self


def build_segmenter(
    config: ModelConfig,
    *,
    head: str,
    num_classes: int,
    in_chans: int,
    image_size: ImageSize,
    storage: StorageConfig = AWS,
    bands: Sequence[str] = (),
    width: int | None = None,
    freeze_norm: bool = False,
) -> Segmenter:
    """Return a backbone with a new head; the backbone's weights are loaded.

    Args:
        config: Name and weights of the backbone.
        head: Name of the head, one of ``HEADS``.
        num_classes: Classes of the data set.
        in_chans: Bands of the data set.
        image_size: Size of the images, any from 32 px; they are padded to what the backbone needs.
        storage: Endpoint of the object store, if the weights are in a bucket.
        bands: Names of the data set's bands.
        width: Channels of the head; ``None`` takes the head's own.
        freeze_norm: Whether batch norms of the backbone keep their statistics in training.

    Raises:
        ConfigError: As :func:`rsdl.models.catalog.build_backbone`, or if the backbone has no maps
            of the strides that a pyramid needs.
    """
    padded, options = pad_size(find_timm_name(config.name), image_size)
    backbone = build_backbone(
        config, in_chans=in_chans, image_size=padded, storage=storage, bands=bands, options=options
    )
    return Segmenter(
        backbone,
        head=head,
        num_classes=num_classes,
        padded_size=padded,
        width=width,
        freeze_norm=freeze_norm,
    )


def pad_size(timm_name: str, image_size: ImageSize) -> tuple[tuple[int, int], dict[str, int]]:
    """Return the size that images are padded to for a backbone, and timm's options for it.

    MaxViT takes multiples of 32 windows: 7 or 8 px, whichever pads less.
    """
    height, width = height_width(image_size)

    def pad(step: int) -> tuple[int, int]:
        return -(-height // step) * step, -(-width // step) * step

    if not timm_name.startswith("maxvit"):
        return pad(STEP), {}
    window = min(WINDOWS, key=lambda side: math.prod(pad(side * MAXVIT_STRIDE)))
    sides = {"transformer_window_size": window, "transformer_grid_size": window}
    return pad(window * MAXVIT_STRIDE), sides
