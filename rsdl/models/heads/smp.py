"""Decoders of ``segmentation_models_pytorch``, an optional package, on backbones built here.

Only its decoders are taken: the backbone stays one of ours, with its weights, bands and layers. A
decoder there gets the image and a map at stride 2 before the four of a pyramid, and most only
measure them or leave them out: an empty map without channels stands for them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from torch import Tensor, nn

from rsdl.core.errors import ConfigError

PACKAGE = "segmentation_models_pytorch"
RATES = (12, 24, 36)  # of DeepLab's dilated convolutions, as in smp
# Channels of the maps and the width of the head -> arguments of a decoder.
Options = Callable[[list[int], int], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class SmpDecoder:
    """How a decoder of smp is built.

    Attributes:
        module: Its module among smp's decoders.
        name: Its class.
        options: What it is built with.
        width: Its channels, unless a config says otherwise; those of smp.
        kernel: Side of its classifier's kernel.
        output_stride: Stride that the backbone's last maps must be dilated to, if any.
        climbs: Whether it goes on to twice the size of the backbone's finest map, halving its
            channels at each step.
        least_px: Sides of the smallest image that it takes; smaller ones are padded.
    """

    module: str
    name: str
    options: Options
    width: int = 256
    kernel: int = 1
    output_stride: int | None = None
    climbs: bool = False
    least_px: int = 1


def _halve(channels: list[int], width: int) -> dict[str, Any]:
    steps = len(channels) - 1
    halved = [width >> step for step in range(steps)]
    return {"encoder_channels": channels, "decoder_channels": halved, "n_blocks": steps}


def _linknet(channels: list[int], width: int) -> dict[str, Any]:
    steps = len(channels) - 1
    return {"encoder_channels": channels, "prefinal_channels": width, "n_blocks": steps}


def _fpn(channels: list[int], width: int) -> dict[str, Any]:
    widths = {"pyramid_channels": 2 * width, "segmentation_channels": width}
    return {"encoder_channels": channels} | widths


def _dpt(channels: list[int], width: int) -> dict[str, Any]:
    return {
        "encoder_out_channels": channels[2:],
        "encoder_output_strides": (4, 8, 16, 32),
        "encoder_has_prefix_tokens": False,
        "readout": "ignore",
        "intermediate_channels": (width, 2 * width, 4 * width, 4 * width),
        "fusion_channels": width,
    }


def _deeplab(channels: list[int], width: int) -> dict[str, Any]:
    rates = {"atrous_rates": RATES, "aspp_separable": False, "aspp_dropout": 0.5}
    return {"in_channels": channels[-1], "out_channels": width} | rates


def _deeplab_plus(channels: list[int], width: int) -> dict[str, Any]:
    rates = {"atrous_rates": RATES, "aspp_separable": True, "aspp_dropout": 0.5}
    sizes = {"encoder_depth": 5, "output_stride": 16, "out_channels": width}
    return {"encoder_channels": channels} | sizes | rates


def _width_as(argument: str, **others: int) -> Options:
    return lambda channels, width: {"encoder_channels": channels, argument: width} | others


DECODERS = {
    "smp/unet": SmpDecoder("unet", "UnetDecoder", _halve, kernel=3, climbs=True),
    "smp/unetplusplus": SmpDecoder(
        "unetplusplus", "UnetPlusPlusDecoder", _halve, kernel=3, climbs=True
    ),
    "smp/manet": SmpDecoder("manet", "MAnetDecoder", _halve, kernel=3, climbs=True),
    "smp/linknet": SmpDecoder("linknet", "LinknetDecoder", _linknet, width=32, climbs=True),
    "smp/fpn": SmpDecoder("fpn", "FPNDecoder", _fpn, width=128),
    "smp/upernet": SmpDecoder("upernet", "UPerNetDecoder", _width_as("decoder_channels")),
    "smp/segformer": SmpDecoder(
        "segformer", "SegformerDecoder", _width_as("segmentation_channels")
    ),
    "smp/dpt": SmpDecoder("dpt", "DPTDecoder", _dpt),
    "smp/pspnet": SmpDecoder(
        "pspnet", "PSPDecoder", _width_as("out_channels"), width=512, kernel=3, output_stride=8
    ),
    "smp/deeplabv3": SmpDecoder("deeplabv3", "DeepLabV3Decoder", _deeplab, output_stride=8),
    "smp/deeplabv3plus": SmpDecoder(
        "deeplabv3", "DeepLabV3PlusDecoder", _deeplab_plus, output_stride=16
    ),
    "smp/pan": SmpDecoder(
        "pan", "PANDecoder", _width_as("decoder_channels", encoder_depth=5), width=32, kernel=3,
        output_stride=16, least_px=128,
    ),
}  # fmt: skip


class SmpHead(nn.Module):
    """Maps of a pyramid to logits at the stride where smp's decoder ends.

    Args:
        head: Name of the decoder, one of ``DECODERS``.
        channels: Channels of each map, fine to coarse.
        num_classes: Classes of the data set.
        width: Channels of the head; ``None`` takes those of smp.

    Raises:
        ConfigError: If smp is not installed.
    """

    def __init__(
        self, head: str, channels: Sequence[int], num_classes: int, width: int | None = None
    ) -> None:
        super().__init__()
        require_smp(head)
        from segmentation_models_pytorch.base import initialization

        kind = DECODERS[head]
        width = width or kind.width
        self.num_empty = 1 if kind.climbs else 2
        options = kind.options([0] * self.num_empty + list(channels), width)
        module = import_module(f"{PACKAGE}.decoders.{kind.module}.decoder")
        self.decoder = getattr(module, kind.name)(**options)
        self.without_tokens = head == "smp/dpt"
        if self.without_tokens:
            self.classifier = module.DPTSegmentationHead(width, num_classes, upsampling=1)
        else:
            widths = options.get("decoder_channels", width)
            last = widths[-1] if isinstance(widths, list) else width
            self.classifier = nn.Conv2d(last, num_classes, kind.kernel, padding=kind.kernel // 2)
        initialization.initialize_decoder(self.decoder)
        initialization.initialize_head(self.classifier)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return logits ``[B, num_classes, h, w]``."""
        if self.without_tokens:
            decoded = self.decoder(list(maps), [None] * len(maps))
        else:
            finest = maps[0]
            batch, _, height, width = finest.shape
            empty = [
                finest.new_empty(batch, 0, height << step, width << step)
                for step in range(self.num_empty, 0, -1)
            ]
            decoded = self.decoder([*empty, *maps])
        logits: Tensor = self.classifier(decoded)
        return logits


def require_smp(head: str) -> None:
    """Check that smp is installed.

    Raises:
        ConfigError: If not.
    """
    if find_spec(PACKAGE) is None:
        raise ConfigError("task.head", f"{head} needs {PACKAGE}", 'pip install "rsdl-train[smp]"')
