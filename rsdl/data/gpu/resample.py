"""Crop and resize many stored images at once, on the device that holds them.

This does for a whole batch what :func:`rsdl.data.resize.resize_into` does for one image on the
host: it averages whole cells of pixels and interpolates neighbouring cells linearly, each axis
separately. Every output pixel is a weighted sum of a few pixels of a column, and then of a row.
These sums are computed tap by tap, as gathers of whole rows and plain multiplications and additions
in float32, not as products with weight matrices. So a row of the result depends bit for bit on its
own image and box alone, and not on the rest of the batch, the world size, TF32 or autocast.

An integer pixel differs from the host's result by at most one grey level, because OpenCV rounds
intermediate values (cells, and 8-bit linear weights to 11 bits); float32 differs by 1e-5 of the
range.

Nothing synchronizes with the device: shapes (taps, widths) are computed from boxes on the host.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsdl.core.image_size import ImageSize, height_width
from rsdl.data.crop import Int64s

# Bytes of intermediate float32 rows, of which three exist at a time. A GPU is efficient with few
# large chunks, a CPU with chunks that fit its cache.
CHUNK_BYTES = 128 << 20
CPU_CHUNK_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class PackedPixels:
    """Images on a device, concatenated.

    Attributes:
        pixels: All pixels, ``[P, C]``: uint8, float32, or the bits of uint16 as int16, since
            PyTorch supports few operations on uint16.
        starts: First pixel of each image, ``[N]``, on the device.
        heights: Heights in pixels, ``[N]``, on the host.
        widths: Widths in pixels, ``[N]``, on the host.
        device_widths: The same on the device.
        width: The width of all images if they have the same size, else ``None``.
    """

    pixels: Tensor
    starts: Tensor
    heights: Int64s
    widths: Int64s
    device_widths: Tensor
    width: int | None


def open_store(pixels: Tensor, sizes: Int64s) -> PackedPixels:
    """Return concatenated images, packed for cropping.

    Args:
        pixels: All pixels, ``[P, C]``.
        sizes: Heights and widths, ``[N, 2]``; (0, 0) for missing images.
    """
    here = sizes[:, 0] > 0
    counts = sizes.prod(axis=1)
    # A missing image is cropped like the first one; the result is not used.
    first = sizes[here][0] if here.any() else np.ones(2, dtype=np.int64)
    starts = np.where(here, np.cumsum(counts) - counts, 0)
    sizes = np.where(here[:, None], sizes, first)
    same = bool((sizes == first).all())
    widths = np.ascontiguousarray(sizes[:, 1])
    return PackedPixels(
        pixels=pixels,
        starts=send(starts, pixels.device),
        heights=np.ascontiguousarray(sizes[:, 0]),
        widths=widths,
        device_widths=send(widths, pixels.device),
        width=int(first[1]) if same else None,
    )


@dataclass(frozen=True, slots=True)
class Taps:
    """Source pixels and weights of each output pixel, along one axis.

    Attributes:
        places: Source pixels relative to the start of the box, ``[K, B, S]``; if a sum needs fewer
            than K, the last one is repeated.
        weights: Weights, ``[K, B, S]`` float32; 0 for unused taps.
    """

    places: Tensor
    weights: Tensor


def resample(store: PackedPixels, samples: Int64s, boxes: Int64s, size: ImageSize) -> Tensor:
    """Return boxes of stored images, resized to one size.

    Each image costs about ``H * width * C * taps`` multiplications, and as many for the other
    axis (``taps`` is 2 up to half the size, 4 up to a third, and so on). Memory is three times
    ``CHUNK_BYTES`` for any size of the batch.

    Args:
        store: The images.
        samples: Numbers of the images, ``[B]``, on the host.
        boxes: Top, left, height and width in pixels, ``[B, 4]``, on the host.
        size: Side of the result, or its height and width, in pixels.

    Returns:
        Pixels on the store's device, ``[B, H, W, C]``, in the stored dtype.
    """
    shape = height_width(size)
    width = store.width or int(boxes[:, 3].max())
    row_bytes = shape[0] * width * store.pixels.shape[1] * 4
    on_cpu = store.pixels.device.type == "cpu"
    chunk = max(1, (CPU_CHUNK_BYTES if on_cpu else CHUNK_BYTES) // row_bytes)
    parts = [
        _resample(store, samples[first : first + chunk], boxes[first : first + chunk], shape)
        for first in range(0, len(samples), chunk)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def send(array: NDArray[Any], device: torch.device) -> Tensor:
    """Return a small array on ``device``, without synchronizing."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def count_taps(lengths: Int64s, size: int) -> int:
    """Return the number of taps along an axis: the most that any sum needs.

    Args:
        lengths: Sides of boxes along the axis, ``[B]``.
        size: Side of the result.
    """
    return 2 * max(int(lengths.max()) // size, 1)


def find_taps(lengths: Tensor, size: int, num: int) -> Taps:
    """Return the taps of one axis.

    The computation uses integers except for one division per weight, so it is exact on every
    device.

    Args:
        lengths: Sides of the boxes along the axis in pixels, ``[B]``.
        size: Side of the result.
        num: Number of taps, from :func:`count_taps`.
    """
    length = lengths[:, None]
    cell = (length // size).clamp(min=1)
    cells = length // cell
    margin = (length - cells * cell) // 2
    number = torch.arange(size, device=lengths.device)
    # Position of the output pixel's center between the centers of cells, in units of 1/(2 size)
    # cell, clamped to the first and the last.
    unit = 2 * size
    center = torch.minimum(((2 * number + 1) * cells - size).clamp(min=0), unit * (cells - 1))
    # [B, S] -> [K, B, S]
    tap = torch.arange(num, device=lengths.device)[:, None, None]
    which = center // unit + tap // cell
    near = (unit - (center - which * unit).abs()).clamp(min=0)
    places = margin + torch.minimum(which, cells - 1) * cell + tap % cell
    return Taps(places, near.to(torch.float32) / (unit * cell).to(torch.float32))


def _resample(store: PackedPixels, samples: Int64s, boxes: Int64s, size: tuple[int, int]) -> Tensor:
    heights, widths = boxes[:, 2], boxes[:, 3]
    sent = send(np.column_stack((samples, boxes)).T, store.pixels.device)
    image, top, left, height, width = sent.unbind()
    rows = find_taps(height, size[0], count_taps(heights, size[0]))
    columns = find_taps(width, size[1], count_taps(widths, size[1]))
    take, origin = _row_taker(store, image, left, width, int(widths.max()))
    total: Tensor | None = None
    for places, weights in zip(rows.places, rows.weights, strict=True):
        part = _to_float(take(top[:, None] + places)).mul_(weights[:, :, None, None])
        total = part if total is None else total.add_(part)
    assert total is not None
    # Transpose columns to rows, because devices gather whole rows fast.
    # [B, Y, W, C] -> [B, W, Y, C]
    total = total.transpose(1, 2).contiguous()
    num, span, _, bands = total.shape
    lines = total.view(num * span, size[0] * bands)
    base = origin + torch.arange(num, device=lines.device)[:, None] * span
    result: Tensor | None = None
    for places, weights in zip(columns.places, columns.weights, strict=True):
        part = lines.index_select(0, (base + places).flatten()).view(num, size[1], size[0], bands)
        part = part.mul_(weights[:, :, None, None])
        result = part if result is None else result.add_(part)
    assert result is not None
    # [B, X, Y, C] -> [B, Y, X, C]
    return _to_stored(result, store.pixels.dtype).transpose(1, 2).contiguous()


def _row_taker(
    store: PackedPixels, image: Tensor, left: Tensor, width: Tensor, widest: int
) -> tuple[Any, Tensor]:
    """Return a function that gathers rows ``[B, S]`` as ``[B, S, W, C]``, and the boxes' left ends.

    If all images have the same size, whole rows are gathered, which copies long pieces of memory;
    otherwise only the pixels of the box, padded with the last one to the widest box.
    """
    bands = store.pixels.shape[1]
    start = store.starts.index_select(0, image)[:, None]
    if store.width is not None:
        whole = store.width
        lines = store.pixels.view(-1, whole * bands)
        first = start // whole

        def take_lines(rows: Tensor) -> Tensor:
            taken = lines.index_select(0, (first + rows).flatten())
            return taken.view(*rows.shape, whole, bands)

        return take_lines, left[:, None]
    stride = store.device_widths.index_select(0, image)[:, None]
    span = torch.minimum(torch.arange(widest, device=left.device), width[:, None] - 1)
    span = (span + left[:, None])[:, None]

    def take_pixels(rows: Tensor) -> Tensor:
        places = (start + rows * stride)[:, :, None] + span
        taken = store.pixels.index_select(0, places.flatten())
        return taken.view(*rows.shape, widest, bands)

    return take_pixels, torch.zeros_like(left)[:, None]


def _to_float(stored: Tensor) -> Tensor:
    if stored.dtype == torch.int16:  # uint16
        return stored.to(torch.int32).bitwise_and_(0xFFFF).to(torch.float32)
    # float32 is not copied again: `stored` is a gathered copy, which callers modify in place.
    return stored.to(torch.float32)


def _to_stored(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Return values in the stored type, with halves rounded up; int16 gets the bits of uint16."""
    if dtype == torch.float32:
        return values
    whole = values.add_(0.5).floor_()
    return whole.to(torch.int32).to(torch.int16) if dtype == torch.int16 else whole.to(dtype)
