"""Turn each image of a batch by its own angle about its centre, whatever their device."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

ANGLE = 11  # column of Batch.uniforms


def draw_angles(numbers: Tensor, most: float) -> Tensor:
    """Return the angle of each image in radians, 0 for half of them, ``[B]`` float32.

    Args:
        numbers: ``[B, K]`` in ``[0, 1)``.
        most: Largest angle in degrees, to either side.
    """
    number = numbers[:, ANGLE].float()
    turned = (4 * number - 3) * math.radians(most)
    return torch.where(number < 0.5, torch.zeros_like(turned), turned)


def rotate(images: Tensor, angles: Tensor, *, mode: str = "bilinear") -> Tensor:
    """Return images turned about their centres; what comes in from outside is 0.

    Args:
        images: ``[B, C, H, W]`` float32.
        angles: From the x axis towards the y axis (down) in radians, ``[B]``; images with an angle
            of 0 stay as they are to the bit.
        mode: ``bilinear`` or ``nearest``.
    """
    height, width = images.shape[2:]
    cos, sin, none = angles.cos(), angles.sin(), torch.zeros_like(angles)
    # From places in the result to those in the image, both from -1 to 1 along each side.
    back = torch.stack(
        [cos, sin * (height / width), none, -sin * (width / height), cos, none], -1
    ).view(-1, 2, 3)
    grid = F.affine_grid(back, list(images.shape), align_corners=False)
    turned = F.grid_sample(images, grid, mode=mode, align_corners=False)
    return torch.where((angles == 0)[:, None, None, None], images, turned)
