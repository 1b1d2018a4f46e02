"""A backbone of any of the nine with a head that labels every pixel."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rsdl.config.model import ModelConfig
from rsdl.config.task import SegmentationConfig
from rsdl.core.errors import ConfigError
from rsdl.core.image_size import ImageSize, height_width
from rsdl.models.dense_network import DenseNetwork, build_padded_backbone
from rsdl.models.heads.catalog import HEADS, build_head, least_px, output_stride, wanted_strides
from rsdl.models.heads.fcn import FcnHead
from rsdl.models.pyramid import Pyramid
from rsdl.storage.s3.endpoint import AWS, StorageConfig

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


class Segmenter(DenseNetwork):
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
        super().__init__(backbone, padded_size=padded_size, freeze_norm=options.freeze_norm)
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

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits of every pixel, float32; a pair of them in training with a second head."""
        height, width = images.shape[2:]
        padded = self.pad(images)
        size = padded.shape[2:]
        raised = tuple(
            F.interpolate(logits.float(), size=size, mode="bilinear", align_corners=False)[
                :, :, :height, :width
            ]
            for logits in self.decoder(self.backbone(padded))
        )
        return raised if len(raised) > 1 else raised[0]


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
    size = max(height, least), max(width, least)
    dilated = output_stride(options.head)
    try:
        backbone, padded = build_padded_backbone(
            config, in_chans=in_chans, image_size=size, storage=storage, bands=bands,
            options=None if dilated is None else {"output_stride": dilated},
        )  # fmt: skip
    except ConfigError as error:
        if error.where != "model.output_stride":
            raise
        raise _not_dilated(config, options.head, in_chans, size) from error
    return Segmenter(backbone, options, num_classes=num_classes, padded_size=padded)


def _not_dilated(config: ModelConfig, head: str, in_chans: int, size: ImageSize) -> ConfigError:
    """Return the error for a head whose backbone timm cannot dilate, with the strides it has."""
    bare = config.model_copy(update={"weights": "none"})
    with torch.device("meta"):
        backbone: Any
        backbone, _ = build_padded_backbone(bare, in_chans=in_chans, image_size=size)
    found = backbone.feature_info.reduction()
    return ConfigError(
        "task.head",
        f"{head} needs maps at strides {_listed(wanted_strides(head, found))}, and {config.name} "
        f"has maps at strides {_listed(sorted(set(found)))}, which timm cannot dilate",
        f"use one of {', '.join(name for name in HEADS if output_stride(name) is None)}",
    )


def _listed(strides: Sequence[int]) -> str:
    return ", ".join(map(str, strides))
