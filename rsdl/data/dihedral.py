"""Apply one of the eight symmetries of the square to each image, chosen by its own numbers.

A GPU transforms all images at once and selects with ``torch.where``. On a CPU that would be five
passes over every pixel, so each image is copied once instead. Both give the same pixels.
"""

from typing import Any

import cv2
import torch
from numpy.typing import NDArray
from torch import Tensor

# Columns of Batch.uniforms.
TRANSPOSE, FLIP_X, FLIP_Y = range(3)

# Device types that transform images one by one.
ONE_BY_ONE = ("cpu",)

# Up to this many bands, OpenCV moves pixels faster than NumPy.
MAX_CV_BANDS = 4


def dihedral(images: Tensor, numbers: Tensor, *, flip: bool, rotate90: bool) -> Tensor:
    """Flip and rotate each square image by its own numbers.

    Flips alone give 4 of the 8 symmetries of the square, rotations alone another 4, both all 8.

    Args:
        images: ``[B, H, W, C]``, any type; square if ``rotate90``.
        numbers: ``[B, K]`` in ``[0, 1)``.
        flip: Whether to flip.
        rotate90: Whether to rotate.

    Returns:
        Images of the same shape; uint16 becomes float32, except on the CPU.
    """
    if not (flip or rotate90):
        return images
    swap, over_y, over_x = draw_dihedral(numbers, flip=flip, rotate90=rotate90)
    if images.device.type in ONE_BY_ONE and not torch.compiler.is_compiling():
        return _turn_each(images.contiguous(), swap, over_y, over_x)
    if images.dtype == torch.uint16:  # PyTorch supports few operations on uint16
        images = images.to(torch.float32)
    return apply_dihedral(images, swap, over_y, over_x)


def draw_dihedral(numbers: Tensor, *, flip: bool, rotate90: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return which images to transpose, and then to flip over y and over x, ``[B]`` each."""
    over_x = numbers[:, FLIP_X] < 0.5
    over_y = numbers[:, FLIP_Y] < 0.5
    swap = numbers[:, TRANSPOSE] < 0.5
    if not rotate90:
        return torch.zeros_like(swap), over_y, over_x
    # Transposing and one flip make a quarter turn, two flips a half turn.
    return swap, over_y, over_x if flip else over_y ^ swap


def apply_dihedral(images: Tensor, swap: Tensor, over_y: Tensor, over_x: Tensor) -> Tensor:
    """Transform all images ``[B, H, W, C]`` at once, without synchronizing with the device."""
    if images.shape[1] == images.shape[2]:  # otherwise nothing is transposed
        # torch.where gives the memory layout of its first tensor.
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
        # No destination if a flip follows: OpenCV then allocates the intermediate image.
        pixels = cv2.transpose(pixels, None if flipped else out)
    if flipped:
        cv2.flip(pixels, -1 if over_y and over_x else int(over_x), dst=out)
    elif not swap:
        out[...] = pixels
