"""The eight symmetries of the square, drawn for each image by its own numbers.

On a device that computes in parallel all images are turned at once, by choosing between the turned
and the unturned; a processor, for which that is five passes over every pixel, copies each image
once. Both give the same pixels.
"""

from typing import Any

import cv2
import torch
from numpy.typing import NDArray
from torch import Tensor

# Columns of Batch.uniforms.
TRANSPOSE, FLIP_X, FLIP_Y = range(3)

# Types of devices that turn images one by one.
ONE_BY_ONE = ("cpu",)

# OpenCV moves pixels of so many bands faster than NumPy does.
MAX_CV_BANDS = 4


def dihedral(images: Tensor, numbers: Tensor, *, flip: bool, rotate90: bool) -> Tensor:
    """Flip and rotate each square image by its own numbers.

    Flips alone reach 4 of the 8 symmetries of the square, rotations alone another 4, both all 8.

    Args:
        images: ``[B, H, W, C]``, any type; square where ``rotate90``.
        numbers: ``[B, K]`` in ``[0, 1)``.
        flip: Whether to flip.
        rotate90: Whether to rotate.

    Returns:
        Images of the same shape; on a device that cannot turn 16-bit integers, as float32.
    """
    if not (flip or rotate90):
        return images
    swap, over_y, over_x = draw_dihedral(numbers, flip=flip, rotate90=rotate90)
    if images.device.type in ONE_BY_ONE and not torch.compiler.is_compiling():
        return _turn_each(images.contiguous(), swap, over_y, over_x)
    if images.dtype == torch.uint16:  # which PyTorch stores, but hardly computes with
        images = images.to(torch.float32)
    return apply_dihedral(images, swap, over_y, over_x)


def draw_dihedral(numbers: Tensor, *, flip: bool, rotate90: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return which images to transpose, and then to flip over y and over x, ``[B]`` each."""
    over_x = numbers[:, FLIP_X] < 0.5
    over_y = numbers[:, FLIP_Y] < 0.5
    swap = numbers[:, TRANSPOSE] < 0.5
    if not rotate90:
        return torch.zeros_like(swap), over_y, over_x
    # Transposing with one flip is a quarter turn, two flips are a half turn.
    return swap, over_y, over_x if flip else over_y ^ swap


def apply_dihedral(images: Tensor, swap: Tensor, over_y: Tensor, over_x: Tensor) -> Tensor:
    """Turn all images ``[B, H, W, C]`` at once; nothing waits for the device."""
    if images.shape[1] == images.shape[2]:  # else nothing is transposed
        # The result lies in memory as the first of the two does.
        images = torch.where(_by_row(~swap), images, images.transpose(1, 2))
    images = torch.where(_by_row(over_x), images.flip(2), images)
    return torch.where(_by_row(over_y), images.flip(1), images)


def _by_row(chosen: Tensor) -> Tensor:
    return chosen[:, None, None, None]


def _turn_each(images: Tensor, swap: Tensor, over_y: Tensor, over_x: Tensor) -> Tensor:
    turned = torch.empty_like(images)
    choices = zip(swap.tolist(), over_y.tolist(), over_x.tolist(), strict=True)
    move = _move_cv if images.shape[3] <= MAX_CV_BANDS else _move
    for pixels, out, choice in zip(images.numpy(), turned.numpy(), choices, strict=True):
        move(pixels, out, *choice)
    return turned


def _move(pixels: NDArray[Any], out: NDArray[Any], *choice: bool) -> None:
    swap, over_y, over_x = choice
    moved = pixels.transpose(1, 0, 2) if swap else pixels
    out[...] = moved[:: -1 if over_y else 1, :: -1 if over_x else 1]


def _move_cv(pixels: NDArray[Any], out: NDArray[Any], *choice: bool) -> None:
    swap, over_y, over_x = choice
    flipped = over_y or over_x
    if swap:
        # Without a destination where the flip follows: OpenCV finds memory of its own.
        pixels = cv2.transpose(pixels, None if flipped else out)
    if flipped:
        cv2.flip(pixels, -1 if over_y and over_x else int(over_x), dst=out)
    elif not swap:
        out[...] = pixels
