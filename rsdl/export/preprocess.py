"""Raw pixels -> the input of a network, as evaluation makes it: crop, resize, normalise.

:func:`rsdl.data.resize.resize_into` averages whole cells of pixels and interpolates between them
linearly, by OpenCV. The same is computed here by operations on tensors, so that an exported graph
takes images of any size, and with OpenCV's rounding: uint8 pixels are bit-equal to the loader's
(OpenCV 4.11 to 5.0 on x86). Those of uint16 differ by one of 65,535 levels at most, where OpenCV
interpolates by code that is not published.
"""

from typing import Any, NamedTuple

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

# OpenCV's weights of uint8 pixels are whole numbers of 1/2048 (INTER_RESIZE_COEF_BITS = 11).
UNIT = 2048


class Axis(NamedTuple):
    """The two cells of pixels along an axis that each pixel of the result lies between.

    Attributes:
        cell: Pixels of a cell, a scalar.
        starts: First pixel of each cell, ``[2, size]`` int64.
        weights: Weight of each cell, ``[2, size]`` float32.
    """

    cell: Tensor
    starts: Tensor
    weights: Tensor


class Preprocess(nn.Module):
    """Crop, resize and normalise a batch of images of one size.

    Args:
        spec: What the network takes.
    """

    mean: Tensor
    scale: Tensor
    rounds_up: Tensor

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.size = height_width(spec.image_size)
        self.rule = CropRule(central=spec.central, aspect=spec.aspect)
        self.shorter = spec.decode_size
        self.is_uint8 = spec.dtype == "uint8"
        # OpenCV rounds halves to even numbers, but the means of 2 x 2 pixels up, unless there are
        # two bands; resize_into passes four at a time.
        bands = len(spec.bands)
        rounds_up = torch.arange(bands) < bands - 2 * (bands % 4 == 2)
        self.register_buffer("rounds_up", rounds_up, persistent=False)
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
        height, width = images.shape[2:]
        pixels = images
        if self.shorter is not None:
            shrunk = shrunk_size(height, width, self.shorter)
            if shrunk != (height, width):
                pixels = self._resize(images, (0, 0, height, width), shrunk).to(images.dtype)
        return self._resize(pixels, self._box(*pixels.shape[2:]), self.size)

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

    def _resize(
        self,
        images: Tensor,
        box: tuple[Any, Any, Any, Any],
        size: tuple[int, int],
    ) -> Tensor:
        """Return a box of images in a size, ``[B, C, S, T]`` float32."""
        top, left, height, width = box
        rows = find_cells(top, height, size[0], images.device)
        columns = find_cells(left, width, size[1], images.device)
        # float64 holds all sums and products of integers here exactly.
        sums = _sum_cells(_sum_cells(images.to(torch.float64), 2, rows), 3, columns)
        area = rows.cell * columns.cell
        if images.dtype.is_floating_point:
            return _interpolate(sums / area, rows.weights, columns.weights).to(torch.float32)
        means = (sums.to(torch.float32) * (1 / area.to(torch.float32))).round().to(torch.float64)
        rounds_up = self.rounds_up[:, None, None] & (rows.cell == 2) & (columns.cell == 2)
        means = torch.where(rounds_up, ((sums + 2) / 4).floor(), means)
        if not self.is_uint8:
            return (_interpolate(means, rows.weights, columns.weights) + 0.5).floor().float()
        return _interpolate_uint8(means, rows.weights, columns.weights).float()


def _resized(image: Pixels, size: tuple[int, int]) -> Pixels:
    resized = np.empty((*size, image.shape[2]), image.dtype)
    resize_into(image, resized)
    return resized


def find_cells(
    first: Any,  # noqa: ANN401
    length: Any,  # noqa: ANN401
    size: int,
    device: torch.device,
) -> Axis:
    """Return the cells that an axis's pixels are averaged in, and interpolated between.

    Args:
        first: First pixel of the box, a number or a tensor.
        length: Pixels of the box, a number or a tensor.
        size: Pixels of the result.
        device: Where to compute.
    """
    start, span = (_scalar(n, device) for n in (first, length))
    cell = (span // size).clamp(min=1)
    cells = span // cell
    origin = start + (span - cells * cell) // 2
    # In the precisions that OpenCV has: position of a pixel's centre between those of the cells.
    number = torch.arange(size, device=device, dtype=torch.float64)
    place = ((number + 0.5) * (1 / (size / cells.double())) - 0.5).to(torch.float32)
    low = place.floor()
    far = place - low
    which = torch.stack((low, low + 1)).long()
    which = torch.minimum(which.clamp(min=0), cells - 1)
    return Axis(cell, origin + which * cell, torch.stack((1 - far, far)))


def _scalar(number: Any, device: torch.device) -> Tensor:  # noqa: ANN401
    if isinstance(number, Tensor):
        return number.to(device)
    return torch.scalar_tensor(number, dtype=torch.int64, device=device)


def _sum_cells(pixels: Tensor, dim: int, axis: Axis) -> Tensor:
    """Return the sums of cells along a dimension: all first ones, then all second ones."""
    first = axis.starts.flatten()
    sums = pixels.cumsum(dim)
    before, last = (sums.index_select(dim, place) for place in (first, first + axis.cell - 1))
    return last - before + pixels.index_select(dim, first)


def _interpolate(cells: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Interpolate cells ``[B, C, 2S, 2T]`` linearly, ``[B, C, S, T]``."""
    high, wide = rows.shape[1], columns.shape[1]
    lines = cells[..., :wide] * columns[0] + cells[..., wide:] * columns[1]
    return lines[:, :, :high] * rows[0, :, None] + lines[:, :, high:] * rows[1, :, None]


def _interpolate_uint8(cells: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """As :func:`_interpolate`, by OpenCV's integers.

    That is HResizeLinear and VResizeLinear of ``modules/imgproc/src/resize.cpp``, where the
    divisions are shifts.
    """
    tall, broad = ((weights * UNIT).round().to(torch.float64) for weights in (rows, columns))
    high, wide = rows.shape[1], columns.shape[1]
    lines = ((cells[..., :wide] * broad[0] + cells[..., wide:] * broad[1]) / 16).floor()
    upper, lower = lines[:, :, :high] * tall[0, :, None], lines[:, :, high:] * tall[1, :, None]
    return (((upper / 65536).floor() + (lower / 65536).floor() + 2) / 4).floor()
