"""A backbone of any of the nine with a head that labels every pixel."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rsdl.config.model import ModelConfig
from rsdl.config.task import SegmentationConfig
from rsdl.core.errors import ConfigError
from rsdl.core.image_size import ImageSize, height_width
from rsdl.models.catalog import build_backbone, find_timm_name
from rsdl.models.heads.catalog import HEADS, build_head, least_px, output_stride, wanted_strides
from rsdl.models.heads.fcn import FcnHead
from rsdl.models.pyramid import Pyramid
from rsdl.storage.s3.endpoint import AWS, StorageConfig

# Sides of MaxViT's windows and grids; by default they grow with the image, and with them its cost.
WINDOWS = (7, 8)
MAXVIT_STRIDE = 32
STEP = 32  # stride of the coarsest map
PREFIX = r"^backbone\.model\."
AUXILIARY = "auxiliary"


class Decoder(nn.Module):
    """What a segmenter has beside its backbone: pyramid, head and, to be trained, a second head."""

    def __init__(self, pyramid: Pyramid, head: nn.Module, auxiliary: nn.Module | None) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.head = head
        self.auxiliary = auxiliary
        self.register_load_state_dict_pre_hook(_leave_auxiliary)  # type: ignore[no-untyped-call]

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Return logits of the backbone's maps; in training those of the second head, too."""
        levels = self.pyramid(maps)
        logits = [self.head(levels)]
        if self.training and self.auxiliary is not None:
            logits.append(self.auxiliary(levels[-2]))
        return logits


def _leave_auxiliary(
    decoder: nn.Module,
    state: dict[str, Any],
    prefix: str,
    *_: Any,  # noqa: ANN401
) -> None:
    """Leave out the weights of a second head that this decoder, built to be used, has not."""
    if getattr(decoder, AUXILIARY) is None:
        for name in [name for name in state if name.startswith(f"{prefix}{AUXILIARY}.")]:
            del state[name]


class Segmenter(nn.Module):
    """Images ``[B, C, H, W]`` to logits ``[B, num_classes, H, W]``.

    With deep supervision (Zhao et al. 2017, "Pyramid Scene Parsing Network", section 3.3) it
    returns in training a pair of logits, the second of a small head on the map at stride 16.

    Args:
        backbone: Network that returns maps, as :func:`rsdl.models.catalog.build_backbone` makes it.
        options: Head and its channels, whether there is a second head, and whether the backbone's
            batch norms keep their statistics.
        num_classes: Classes of the data set.
        padded_size: Size that images are padded to, at the bottom and on the right, for the
            backbone's strides and windows.
    """

    def __init__(
        self,
        backbone: nn.Module,
        options: SegmentationConfig,
        *,
        num_classes: int,
        padded_size: ImageSize,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        info: Any = backbone.feature_info
        strides = wanted_strides(options.head, info.reduction())
        pyramid = Pyramid(info.reduction(), info.channels(), type(backbone).__name__, strides)
        width = {} if options.head_width is None else {"width": options.head_width}
        coarse = pyramid.channels[-2]
        self.decoder = Decoder(
            pyramid,
            build_head(options.head, pyramid.channels, num_classes, **width),
            FcnHead(coarse, num_classes, **width) if options.auxiliary_weight else None,
        )
        self.padded_size = height_width(padded_size)
        self.freeze_norm = options.freeze_norm
        self.train(self.training)  # Lightning keeps the modes that it finds

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits of every pixel, float32; a pair of them in training with a second head."""
        height, width = images.shape[2:]
        padded = max(height, self.padded_size[0]), max(width, self.padded_size[1])
        if padded != (height, width):
            images = F.pad(images, (0, padded[1] - width, 0, padded[0] - height))
        raised = tuple(
            F.interpolate(logits.float(), size=padded, mode="bilinear", align_corners=False)[
                :, :, :height, :width
            ]
            for logits in self.decoder(self.backbone(images))
        )
        return raised if len(raised) > 1 else raised[0]

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
    options: SegmentationConfig,
    *,
    num_classes: int,
    in_chans: int,
    image_size: ImageSize,
    storage: StorageConfig = AWS,
    bands: Sequence[str] = (),
) -> Segmenter:
    """Return a backbone with a new head; the backbone's weights are loaded.

    Args:
        config: Name and weights of the backbone.
        options: The head, as for :class:`Segmenter`.
        num_classes: Classes of the data set.
        in_chans: Bands of the data set.
        image_size: Size of the images, any from 32 px; they are padded to what the backbone needs.
        storage: Endpoint of the object store, if the weights are in a bucket.
        bands: Names of the data set's bands.

    Raises:
        ConfigError: As :func:`rsdl.models.catalog.build_backbone`, or if the backbone has no maps
            of the strides that the head needs.
    """
    least = least_px(options.head)
    height, width = height_width(image_size)
    padded, given = pad_size(find_timm_name(config.name), (max(height, least), max(width, least)))
    dilated = output_stride(options.head)

    def build(given: Mapping[str, int]) -> nn.Module:
        return build_backbone(
            config, in_chans=in_chans, image_size=padded, storage=storage, bands=bands,
            options=given,
        )  # fmt: skip

    try:
        backbone = build(given if dilated is None else given | {"output_stride": dilated})
    except ConfigError as error:
        if error.where != "model.output_stride":
            raise
        raise _not_dilated(config, options.head, in_chans, padded, given) from error
    return Segmenter(backbone, options, num_classes=num_classes, padded_size=padded)


def _not_dilated(
    config: ModelConfig, head: str, in_chans: int, size: ImageSize, given: Mapping[str, int]
) -> ConfigError:
    """Return the error for a head whose backbone timm cannot dilate, with the strides it has."""
    bare = config.model_copy(update={"weights": "none"})
    with torch.device("meta"):
        backbone: Any = build_backbone(bare, in_chans=in_chans, image_size=size, options=given)
    found = backbone.feature_info.reduction()
    return ConfigError(
        "task.head",
        f"{head} needs maps at strides {_listed(wanted_strides(head, found))}, and {config.name} "
        f"has maps at strides {_listed(sorted(set(found)))}, which timm cannot dilate",
        f"use one of {', '.join(name for name in HEADS if output_stride(name) is None)}",
    )


def _listed(strides: Sequence[int]) -> str:
    return ", ".join(map(str, strides))


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
