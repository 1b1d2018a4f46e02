"""A backbone of any of the nine with a feature pyramid and a head that finds objects."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from rsdl.config.model import ModelConfig
from rsdl.config.task import DetectionConfig
from rsdl.core.errors import ConfigError
from rsdl.core.image_size import ImageSize
from rsdl.models.dense_network import DenseNetwork, build_padded_backbone
from rsdl.models.heads.detection import HEADS
from rsdl.models.pyramid import Pyramid
from rsdl.storage.s3.endpoint import AWS, StorageConfig

COARSEST = 5  # level of a backbone's last map
SINGLE_STRIDE = 16  # of a plain transformer's patches


class Decoder(nn.Module):
    """What a detector has beside its backbone: pyramid and head.

    A head gets the maps of an FPN, unless it brings a neck of its own. Those beyond the backbone's
    are made by convolutions of stride 2, as in FCOS (Tian et al. 2019, section 3.2).

    Args:
        pyramid: Maps of the backbone at the strides wanted.
        options: Levels and head.
        num_classes: Classes of the data set.
    """

    def __init__(self, pyramid: Pyramid, options: DetectionConfig, num_classes: int) -> None:
        super().__init__()
        width, last = options.head_width, options.levels[1]
        kind = HEADS[options.head]
        self.pyramid = pyramid
        self.neck: nn.Module | None = None
        self.coarser = nn.ModuleList()
        self.strides = strides_of(options)
        channels: Sequence[int] = pyramid.channels
        if kind.own_neck:
            self.strides = self.strides[: len(channels)]
        else:
            self.neck = FeaturePyramidNetwork(list(channels), width)
            self.coarser.extend(
                nn.Conv2d(width, width, 3, stride=2, padding=1) for _ in range(COARSEST, last)
            )
            channels = [width] * len(self.strides)
        self.head = kind.build(options, channels, num_classes)

    def forward(self, maps: Sequence[Tensor], height: int, width: int) -> tuple[Tensor, ...]:
        """Return the head's outputs for images of a height and width."""
        seen = self.levels(maps)
        if self.neck is not None:  # a neck of the head's own doubles maps, which must fit
            seen = [
                each[:, :, : -(-height // stride), : -(-width // stride)]
                for each, stride in zip(seen, self.strides, strict=True)
            ]
        found: tuple[Tensor, ...] = self.head(seen, self.strides, (height, width))
        return found

    def levels(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return the maps that a head gets, fine to coarse, of padded images."""
        levels: list[Tensor] = self.pyramid(maps)
        if self.neck is not None:
            wanted = {str(level): each for level, each in enumerate(levels)}
            levels = list(self.neck(wanted).values())
        for convolution in self.coarser:
            levels.append(convolution(F.relu(levels[-1])))
        return levels


class Detector(DenseNetwork):
    """Images ``[B, C, H, W]`` to the outputs of a head, a tuple of tensors ``[B, ...]`` float32.

    Of the dense head they are class logits ``[B, N, num_classes]`` and boxes ``[B, N, 5]``. N
    counts the cells of all levels, row by row, fine to coarse; a box is its centre, width and
    height in pixels and its angle in radians.

    Args:
        backbone: Network that returns maps, as :func:`rsdl.models.catalog.build_backbone` makes it.
        options: Levels and head, and whether the backbone's batch norms keep their statistics.
        num_classes: Classes of the data set.
        padded_size: Size that images are padded to, at the bottom and on the right.

    Raises:
        ConfigError: If the backbone has no maps of the strides that the levels need.
    """

    def __init__(
        self,
        backbone: nn.Module,
        options: DetectionConfig,
        *,
        num_classes: int,
        padded_size: ImageSize,
    ) -> None:
        super().__init__(backbone, padded_size=padded_size, freeze_norm=options.freeze_norm)
        info: Any = backbone.feature_info
        name, strides = type(backbone).__name__, strides_of(options)
        reductions = list(info.reduction())
        if len(set(reductions)) == 1 and reductions[0] != SINGLE_STRIDE:
            raise ConfigError(
                "model.name",
                f"has patches of {reductions[0]} px, and a detector needs {SINGLE_STRIDE} px",
                "use one of the nine",
            )
        wanted = [stride for stride in strides if stride <= 2**COARSEST]
        pyramid = Pyramid(reductions, info.channels(), name, wanted)
        self.decoder = Decoder(pyramid, options, num_classes)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the head's outputs for what the images cover of the padded ones."""
        height, width = images.shape[2:]
        found: tuple[Tensor, ...] = self.decoder(self.backbone(self.pad(images)), height, width)
        return found


def strides_of(options: DetectionConfig) -> tuple[int, ...]:
    """Return the stride of each level in pixels, fine to coarse."""
    first, last = options.levels
    return tuple(2**level for level in range(first, last + 1))


def build_detector(
    config: ModelConfig,
    options: DetectionConfig,
    *,
    num_classes: int,
    in_chans: int,
    image_size: ImageSize,
    storage: StorageConfig = AWS,
    bands: Sequence[str] = (),
) -> Detector:
    """Return a backbone with a new pyramid and head; the backbone's weights are loaded.

    Args:
        config: Name and weights of the backbone.
        options: Levels and head.
        num_classes: Classes of the data set.
        in_chans: Bands of the data set.
        image_size: Size of the images, any from 32 px; they are padded to what the backbone needs.
        storage: Endpoint of the object store, if the weights are in a bucket.
        bands: Names of the data set's bands.

    Raises:
        ConfigError: As :func:`rsdl.models.catalog.build_backbone`, or if the backbone has no maps
            of the strides that the levels need.
    """
    backbone, padded = build_padded_backbone(
        config, in_chans=in_chans, image_size=image_size, storage=storage, bands=bands
    )
    return Detector(backbone, options, num_classes=num_classes, padded_size=padded)
