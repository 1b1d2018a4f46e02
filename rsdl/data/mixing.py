"""Weights and regions for mixup and CutMix: Beta quantiles and CutMix boxes."""

import math

import numpy as np
import torch
from torch import Tensor


def beta_quantiles(alpha: float, size: int = 1025) -> Tensor:
    """Return quantiles of Beta(alpha, alpha) at ``size`` equally spaced levels, 0 and 1 included.

    The lower half of the density is integrated over ``u``, where ``x = sin^2 u^(1 / 2 alpha)``.
    This substitution removes the pole at 0 for any ``alpha``. The upper half mirrors it.
    """
    steps = 1 << 14
    power = 1 / (2 * alpha)
    edges = np.linspace(0, (math.pi / 4) ** (2 * alpha), steps + 1)
    middle = ((edges[1:] + edges[:-1]) / 2) ** power
    # sin t cos t / t = sinc 2t
    mass = np.cumsum(np.sinc(2 * middle / math.pi) ** (2 * alpha - 1))
    below = np.concatenate(([0.0], mass / mass[-1])) / 2
    levels = np.linspace(0, 1, size)
    lower = np.sin(np.interp(np.minimum(levels, 1 - levels), below, edges) ** power) ** 2
    quantiles = np.where(levels <= 0.5, lower, 1 - lower)
    return torch.tensor(quantiles, dtype=torch.float32)


def interpolate(table: Tensor, levels: Tensor) -> Tensor:
    """Return the table's values at ``levels`` in ``[0, 1)``, interpolated linearly."""
    place = levels * (len(table) - 1)
    below = place.long().clamp_max(len(table) - 2)
    return torch.lerp(table[below], table[below + 1], place - below)


def cut_box(weight: Tensor, x: Tensor, y: Tensor, height: int, width: int) -> Tensor:
    """Return a mask of the pixels that come from the partner, ``[B, H, W]`` bool.

    Args:
        weight: Share of a row's own pixels before the box is clipped at the border, ``[B]``.
        x: Centre as a fraction in ``[0, 1)`` of the width, ``[B]``.
        y: Centre as a fraction in ``[0, 1)`` of the height, ``[B]``.
        height: Height in pixels.
        width: Width in pixels.
    """
    half = (1 - weight).clamp_min(0).sqrt() / 2
    rows = (torch.arange(height, device=weight.device) + 0.5) / height
    columns = (torch.arange(width, device=weight.device) + 0.5) / width
    in_rows = (rows[None, :] - y[:, None]).abs() < half[:, None]
    in_columns = (columns[None, :] - x[:, None]).abs() < half[:, None]
    return in_rows[:, :, None] & in_columns[:, None, :]
