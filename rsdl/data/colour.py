"""Colour operations on batched RGB images in ``[0, 1]``, with torchvision's arithmetic."""

import torch
from torch import Tensor

GREY = (0.2989, 0.587, 0.114)  # ITU-R BT.601, as rounded by torchvision


def grey(images: Tensor) -> Tensor:
    """Return the luma of RGB images, ``[B, 3, H, W] -> [B, 1, H, W]``."""
    red, green, blue = images.unbind(1)
    return (GREY[0] * red + GREY[1] * green + GREY[2] * blue)[:, None]


def blend(images: Tensor, others: Tensor, factor: Tensor) -> Tensor:
    """Return ``factor * images + (1 - factor) * others``, clamped to ``[0, 1]``."""
    return (factor * images + (1 - factor) * others).clamp(0, 1)


def shift_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Rotate the hue of RGB images by ``turns`` ``[B]`` (HSV, Smith 1978)."""
    top, _ = images.max(1)
    low, _ = images.min(1)
    span = top - low
    safe = torch.where(span == 0, torch.ones_like(span), span)
    red, green, blue = images.unbind(1)
    hue = torch.where(
        top == red,
        ((green - blue) / safe) % 6,
        torch.where(top == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    hue = hue + 6 * turns[:, None, None]
    # Channel n of HSV -> RGB: V - V S max(0, min(k, 4 - k, 1)), k = (n + H) mod 6
    channels = []
    for number in (5, 3, 1):
        k = (number + hue) % 6
        ramp = torch.minimum(torch.minimum(k, 4 - k), torch.ones_like(k)).clamp_min(0)
        channels.append(top - span * ramp)
    return torch.stack(channels, -1).permute(0, 3, 1, 2)  # channels-last in memory
