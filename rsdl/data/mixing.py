"""How much of two images is mixed, and where: Beta quantiles and CutMix boxes."""

import math

import numpy as np
import torch
from torch import Tensor


def beta_quantiles(alpha: float, size: int = 1025) -> Tensor:
    """Return quantiles of Beta(alpha, alpha) at ``size`` equally spaced levels, 0 and 1 included.

    The density is integrated after the substitution ``x = sin^2 t``, which removes its poles at
    both ends for small ``alpha``.
    """
    steps = 1 << 16
    middle = (np.arange(steps) + 0.5) / steps * (math.pi / 2)
    mass = np.cumsum((np.sin(middle) * np.cos(middle)) ** (2 * alpha - 1))
    levels = np.concatenate(([0.0], mass / mass[-1]))
    angles = np.arange(steps + 1) / steps * (math.pi / 2)
    quantiles = np.sin(np.interp(np.linspace(0, 1, size), levels, angles)) ** 2
    return torch.tensor(quantiles, dtype=torch.float32)


def interpolate(table: Tensor, levels: Tensor) -> Tensor:
    """Return the table's value at ``levels`` in ``[0, 1)``, between entries linearly."""
    place = levels * (len(table) - 1)
    below = place.long().clamp_max(len(table) - 2)
    return torch.lerp(table[below], table[below + 1], place - below)


def cut_box(weight: Tensor, x: Tensor, y: Tensor, height: int, width: int) -> Tensor:
    """Return which pixels come from the partner, ``[B, H, W]`` bool.

    Args:
        weight: Share that a row keeps before the box is clipped at the border, ``[B]``.
        x: Centre in ``[0, 1)`` of the width, ``[B]``.
        y: Centre in ``[0, 1)`` of the height, ``[B]``.
        height: Height in pixels.
        width: Width in pixels.
    """
    half = (1 - weight).clamp_min(0).sqrt() / 2
    rows = (torch.arange(height, device=weight.device) + 0.5) / height
    columns = (torch.arange(width, device=weight.device) + 0.5) / width
    in_rows = (rows[None, :] - y[:, None]).abs() < half[:, None]
    in_columns = (columns[None, :] - x[:, None]).abs() < half[:, None]
    return in_rows[:, :, None] & in_columns[:, None, :]
