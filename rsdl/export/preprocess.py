"""Raw pixels -> the input of a network, as evaluation makes it: crop, resize, normalise.

Crop and resize are one product with a matrix along each axis. Its weights are those of
:func:`rsdl.data.resize.resize_into`, which averages whole cells of pixels and interpolates them
linearly, but the product is exact for integers and rounded once, where OpenCV rounds in between:
an integer pixel differs by one grey level at most, and not at all if the size does not change.

Everything is computed from sizes by operations on tensors, so that an exported graph takes images
of any size.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rsdl.core.bands import divisors
from rsdl.core.image_size import height_width
from rsdl.core.pixels import Pixels
from rsdl.data.crop import CropRule, central_box
from rsdl.data.decode import shrunk_size
from rsdl.data.resize import resize_into
from rsdl.records.model_spec import ModelSpec

# Weights of an axis, and what those of an output pixel add up to.
Axis = tuple[Tensor, Tensor]


class Preprocess(nn.Module):
    """Crop, resize and normalise a batch of images of one size.

    Args:
        spec: What the network takes.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.size = height_width(spec.image_size)
        self.rule = CropRule(central=spec.central, aspect=spec.aspect)
        self.shorter = spec.decode_size
        scale = 1.0 / divisors(spec.std)
        # As Augment has them. Not in the state dict: they are in the spec.
        self.register_buffer("mean", torch.tensor(spec.mean, dtype=torch.float32), persistent=False)
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the network's input, ``[B, C, S, T]`` float32; arguments as :meth:`fit`."""
        return self.normalize(self.fit(images))

    def fit(self, images: Tensor) -> Tensor:
        """Crop and resize a batch, ``[B, C, S, T]`` float32.

        Args:
            images: Stored pixels, ``[B, C, H, W]``, of any real dtype. Results of integers are
                rounded to integers, as those of the loader are.
        """
        is_integer = not images.dtype.is_floating_point
        pixels = images.to(torch.float32)
        if self.shorter is not None:
            pixels = _shrink(pixels, self.shorter, is_integer=is_integer)
        top, left, height, width = self._box(pixels.shape[2], pixels.shape[3])
        rows = axis_weights(pixels.shape[2], top, height, self.size[0], pixels.device)
        columns = axis_weights(pixels.shape[3], left, width, self.size[1], pixels.device)
        return _resize(pixels, rows, columns, is_integer=is_integer)

    def normalize(self, images: Tensor) -> Tensor:
        """Return ``(images - mean) / std`` by band, ``[B, C, S, T]`` float32."""
        mean, scale = self.mean[:, None, None], self.scale[:, None, None]
        # In the memory order that evaluation uses, for the same rounding in convolutions.
        return ((images - mean) * scale).contiguous(memory_format=torch.channels_last)

    def fit_on_host(self, image: Pixels) -> Pixels:
        """Crop and resize one image ``[H, W, C]`` by OpenCV, bit-equal to the loader."""
        shrunk = shrunk_size(image.shape[0], image.shape[1], self.shorter)
        if shrunk != image.shape[:2]:
            image = _resized(image, shrunk)
        top, left, height, width = central_box(self.rule, image.shape[0], image.shape[1])
        return _resized(image[top : top + height, left : left + width], self.size)

    def resize_on_host(self, image: Pixels) -> Pixels:
        """Resize one image ``[H, W, C]`` as a whole by OpenCV; of the network's size it stays."""
        return image if image.shape[:2] == self.size else _resized(image, self.size)

    def _box(self, height: Any, width: Any) -> tuple[Any, Any, Any, Any]:  # noqa: ANN401
        """Return top, left, height and width of the evaluated box, as numbers or tensors."""
        if not torch.compiler.is_exporting():
            return central_box(self.rule, height, width)
        # The arithmetic of central_box on float64 tensors, which rounds equally.
        high, wide = (torch.scalar_tensor(n, dtype=torch.float64) for n in (height, width))
        if self.rule.central is None:
            zero = torch.zeros((), dtype=torch.int64)
            return zero, zero, high.long(), wide.long()
        largest = torch.minimum(high, wide / self.rule.aspect)
        sides = (largest * self.rule.central, largest * self.rule.aspect * self.rule.central)
        h, w = (side.round().clamp(min=1.0) for side in sides)
        corners = (((n - side) / 2).floor().long() for n, side in ((high, h), (wide, w)))
        top, left = corners
        return top, left, h.long(), w.long()


def _resized(image: Pixels, size: tuple[int, int]) -> Pixels:
    resized = np.empty((*size, image.shape[2]), image.dtype)
    resize_into(image, resized)
    return resized


def axis_weights(
    count: Any,  # noqa: ANN401
    first: Any,  # noqa: ANN401
    length: Any,  # noqa: ANN401
    size: int,
    device: torch.device,
) -> Axis:
    """Return the weights of an axis's pixels in each output pixel, and what they add up to.

    As :func:`rsdl.data.gpu.resample.find_taps`, but dense, ``[size, count]`` int64, and whole
    numbers, so that sums of integers are exact on every device.

    Args:
        count: Pixels of the axis.
        first: First pixel of the box, a number or a tensor.
        length: Pixels of the box, a number or a tensor.
        size: Pixels of the result.
        device: Where to compute.
    """
    start, span = (_scalar(n, device) for n in (first, length))
    cell = (span // size).clamp(min=1)
    cells = span // cell
    origin = start + (span - cells * cell) // 2
    number = torch.arange(size, device=device)
    unit = 2 * size  # positions are in units of 1/unit of a cell
    center = torch.minimum(((2 * number + 1) * cells - size).clamp(min=0), unit * (cells - 1))
    place = torch.arange(count, device=device) - origin
    inside = (place >= 0) & (place < cells * cell)
    which = place.clamp(min=0) // cell
    near = (unit - (center[:, None] - which * unit).abs()).clamp(min=0)
    return torch.where(inside, near, torch.zeros_like(near)), unit * cell


def _scalar(number: Any, device: torch.device) -> Tensor:  # noqa: ANN401
    if isinstance(number, Tensor):
        return number.to(device)
    return torch.scalar_tensor(number, dtype=torch.int64, device=device)


def _shrink(pixels: Tensor, shorter: int, *, is_integer: bool) -> Tensor:
    """Return images whose shorter side is at most ``shorter``, as ``data.decode_size`` does it."""
    height, width = pixels.shape[2:]
    size = shrunk_size(height, width, shorter)
    if size == (height, width):
        return pixels
    rows = axis_weights(height, 0, height, size[0], pixels.device)
    columns = axis_weights(width, 0, width, size[1], pixels.device)
    return _resize(pixels, rows, columns, is_integer=is_integer)


def _resize(pixels: Tensor, rows: Axis, columns: Axis, *, is_integer: bool) -> Tensor:
    # float64 adds whole numbers exactly, so that every runtime rounds halves alike.
    dtype = torch.float64 if is_integer else torch.float32
    (tall, high), (broad, wide) = ((part.to(dtype) for part in axis) for axis in (rows, columns))
    if not is_integer:
        return (tall / high) @ pixels @ (broad / wide).T
    # [S, H] @ [B, C, H, W] @ [W, T] -> [B, C, S, T]
    resized = (tall @ pixels.to(dtype) @ broad.T) / (high * wide)
    return (resized + 0.5).floor().to(torch.float32)
