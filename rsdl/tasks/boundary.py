"""Boundaries between classes, and how many of them are found within a tolerance.

Source: Csurka et al. 2013, "What is a good evaluation measure for semantic segmentation?", with
counts over all images instead of a mean of images, so that any number of ranks gives one number.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rsdl.data.targets.mask import IGNORE


def boundary_counts(predicted: Tensor, targets: Tensor, tolerance: int) -> Tensor:
    """Return counts of boundary pixels of each image, ``[B, 4]`` int64.

    Args:
        predicted: Predicted classes, ``[B, H, W]``.
        targets: True classes, ``[B, H, W]``; 255 is ignored.
        tolerance: Pixels, along rows and columns, within which a boundary counts as found.

    Returns:
        For each image: predicted ones, those of them near a true one, true ones, those near a
        predicted one.
    """
    counted = targets != IGNORE
    found, truth = find_boundaries(predicted, counted), find_boundaries(targets, counted)
    near_truth, near_found = _widen(truth, tolerance), _widen(found, tolerance)
    counts = (found, found & near_truth, truth, truth & near_found)
    return torch.stack([each.sum((1, 2)) for each in counts], dim=1)


def find_boundaries(classes: Tensor, counted: Tensor) -> Tensor:
    """Return the pixels ``[B, H, W]`` with a neighbour of another class, both of them counted."""
    boundary = torch.zeros_like(counted)
    for axis in (1, 2):
        size = classes.shape[axis]
        first, second = (
            (classes.narrow(axis, start, size - 1), counted.narrow(axis, start, size - 1))
            for start in (0, 1)
        )
        differs = (first[0] != second[0]) & first[1] & second[1]
        boundary.narrow(axis, 0, size - 1).logical_or_(differs)
        boundary.narrow(axis, 1, size - 1).logical_or_(differs)
    return boundary


def _widen(boundary: Tensor, tolerance: int) -> Tensor:
    side = 2 * tolerance + 1
    widened = F.max_pool2d(boundary[:, None].float(), side, stride=1, padding=tolerance)
    return widened[:, 0] > 0
