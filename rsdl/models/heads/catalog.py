"""The heads by name, and the maps that each takes from a backbone."""

from collections.abc import Sequence

from torch import nn

from rsdl.models.heads.semantic_fpn import SemanticFpn
from rsdl.models.heads.smp import DECODERS, SmpHead
from rsdl.models.heads.upernet import UperNet
from rsdl.models.pyramid import STRIDES

OWN: dict[str, type[SemanticFpn | UperNet]] = {"fpn": SemanticFpn, "upernet": UperNet}
HEADS = (*OWN, *DECODERS)
HALF = 2  # stride of the finest map that some backbones have


def build_head(name: str, channels: Sequence[int], num_classes: int, **width: int) -> nn.Module:
    """Return a head: maps, fine to coarse, to logits at a stride of its own.

    Args:
        name: Name of the head, one of ``HEADS``.
        channels: Channels of each map.
        num_classes: Classes of the data set.
        width: ``width``, channels of the head, in place of its own.

    Raises:
        ConfigError: If a package that the head needs is not installed.
    """
    if name in OWN:
        return OWN[name](channels, num_classes, **width)
    return SmpHead(name, channels, num_classes, **width)


def output_stride(name: str) -> int | None:
    """Return the stride that a head wants its backbone dilated to, or ``None``."""
    return DECODERS[name].output_stride if name in DECODERS else None


def wanted_strides(name: str, reductions: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of the maps that a head takes from a backbone.

    Args:
        name: Name of the head.
        reductions: Stride of each of the backbone's maps.
    """
    dilated = output_stride(name)
    if dilated is not None:
        return tuple(min(stride, dilated) for stride in STRIDES)
    climbs = name in DECODERS and DECODERS[name].climbs
    return (HALF, *STRIDES) if climbs and HALF in reductions else STRIDES


def least_px(name: str) -> int:
    """Return the sides of the smallest image that a head takes, in pixels."""
    return DECODERS[name].least_px if name in DECODERS else 1
