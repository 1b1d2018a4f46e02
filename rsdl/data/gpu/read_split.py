"""Read a whole split once, as decoded pixels on a device.

Threads read and decode blocks of consecutive samples; each block is copied to the device as soon as
all previous ones are there, so the host holds a few blocks and never the split. The memory needed
is estimated from a few images, which is exact if all have the same size. Otherwise, if the estimate
is too low, the device memory grows, and for a moment the pixels are there twice.
"""

import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rsdl.core.errors import CorruptSampleError
from rsdl.core.pixels import Pixels
from rsdl.data.crop import Int64s
from rsdl.data.dataset import SplitData
from rsdl.data.gpu.resample import PackedPixels, open_store
from rsdl.data.manifest import Manifest
from rsdl.data.sample_reader import SampleReader, probe_sizes

PROBED_SAMPLES = 16  # of each probed shard, for the size of images
HEADROOM = 1.05  # factor on the mean size if images differ in size
GROWTH = 1.25
BLOCK_BYTES, BLOCK_SAMPLES = 32 << 20, 256

# PyTorch supports few operations on uint16, so its bits are stored as int16.
KEPT_TYPES = {"uint8": torch.uint8, "uint16": torch.int16, "float32": torch.float32}


class DoesNotFitError(Exception):
    """There are more pixels than fit on the device.

    Args:
        num_pixels: Number of pixels needed, at least.
    """

    def __init__(self, num_pixels: int) -> None:
        self.num_pixels = num_pixels
        super().__init__(num_pixels)


@dataclass(slots=True)
class ResidentSplit:
    """A split on a device.

    Attributes:
        store: The pixels.
        labels: Class index of each sample, ``[N]``, on the host.
        corrupt: Errors of the samples that cannot be read, by sample number.
        manifest: The dataset's manifest.
        encoded_bytes: Bytes read that are not yet counted in a batch.
        decoded_bytes: Bytes of decoded pixels that are not yet counted in a batch.
    """

    store: PackedPixels
    labels: Int64s
    corrupt: dict[int, CorruptSampleError]
    manifest: Manifest
    encoded_bytes: int
    decoded_bytes: int

    def charge(self) -> tuple[int, int]:
        """Return the bytes read and decoded at the first call; 0 afterwards."""
        charged = self.encoded_bytes, self.decoded_bytes
        self.encoded_bytes = self.decoded_bytes = 0
        return charged


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive samples, read and decoded.

    Attributes:
        first: Number of the first sample.
        images: Pixels ``[H, W, C]`` of each, or the error.
        encoded_bytes: Bytes read of the samples that could be decoded.
    """

    first: int
    images: list[Pixels | CorruptSampleError]
    encoded_bytes: int


class PixelBuffer:
    """A growing buffer of pixels on a device.

    Args:
        manifest: The manifest, for bands and dtype.
        device: The device.
        capacity: Initial capacity in pixels.
        limit: Largest capacity in pixels.
    """

    def __init__(
        self, manifest: Manifest, device: torch.device, *, capacity: int, limit: int
    ) -> None:
        self._bands = len(manifest.bands)
        self._dtype = KEPT_TYPES[manifest.dtype]
        self._device = device
        self._limit = limit
        self._used = 0
        self._pixels = self._allocate(max(capacity, 1))

    @property
    def pixels(self) -> Tensor:
        """The appended pixels, ``[P, C]``; at least one pixel."""
        return self._pixels[: max(self._used, 1)]

    def append(self, pixels: Pixels) -> None:
        """Add pixels ``[p, C]``.

        Raises:
            DoesNotFitError: If this exceeds the limit or the memory.
        """
        end = self._used + len(pixels)
        if end > len(self._pixels):
            grown = self._allocate(min(int(end * GROWTH), max(self._limit, end)))
            grown[: self._used] = self._pixels[: self._used]
            self._pixels = grown
        bits = pixels.view(np.int16) if self._dtype == torch.int16 else pixels
        self._pixels[self._used : end] = torch.from_numpy(bits)
        self._used = end

    def _allocate(self, num: int) -> Tensor:
        if num > self._limit:
            raise DoesNotFitError(num)
        try:
            return torch.empty((num, self._bands), dtype=self._dtype, device=self._device)
        except torch.OutOfMemoryError as error:
            raise DoesNotFitError(num) from error


def pixel_bytes(manifest: Manifest) -> int:
    """Return the bytes of one pixel over all bands."""
    return len(manifest.bands) * np.dtype(manifest.dtype).itemsize


def estimate_pixels(data: SplitData) -> int:
    """Return an estimate of a split's number of pixels; exact if all images have the same size.

    Samples that cannot be decoded are ignored.
    """
    with closing(data.open_reader()) as reader:
        sizes = [height * width for height, width in probe_sizes(reader, PROBED_SAMPLES)]
    if not sizes:
        return 0
    spread = 1.0 if len(set(sizes)) == 1 else HEADROOM
    return int(np.ceil(np.mean(sizes) * len(data.index) * spread))


def read_split(
    data: SplitData, device: torch.device, *, expected: int, limit: int, num_workers: int
) -> ResidentSplit:
    """Read, decode and keep every sample of a split.

    Args:
        data: The split.
        device: The device for the pixels.
        expected: Expected pixels, from :func:`estimate_pixels`.
        limit: Largest number of pixels.
        num_workers: Threads.

    Raises:
        DoesNotFitError: If there are more pixels than ``limit``.
        DataError: If the index has invalid rows.
        StorageError: If a shard cannot be read.
    """
    num, manifest = len(data.index), data.manifest
    buffer = PixelBuffer(manifest, device, capacity=expected, limit=limit)
    sizes = np.zeros((num, 2), dtype=np.int64)
    corrupt: dict[int, CorruptSampleError] = {}
    encoded = 0
    step = BLOCK_BYTES * num // max(1, expected * pixel_bytes(manifest))
    for block in _read_blocks(data, min(max(step, 1), BLOCK_SAMPLES), num_workers):
        good: list[Pixels] = []
        for sample, image in enumerate(block.images, block.first):
            if isinstance(image, CorruptSampleError):
                corrupt[sample] = image
            else:
                sizes[sample] = image.shape[:2]
                good.append(image.reshape(-1, image.shape[2]))
        if good:
            buffer.append(np.concatenate(good))
        encoded += block.encoded_bytes
    return ResidentSplit(
        store=open_store(buffer.pixels, sizes),
        labels=data.index.labels.astype(np.int64),
        corrupt=corrupt,
        manifest=manifest,
        encoded_bytes=encoded,
        decoded_bytes=int(sizes.prod(axis=1).sum()) * pixel_bytes(manifest),
    )


def _read_blocks(data: SplitData, step: int, num_workers: int) -> Iterator[Block]:
    """Yield all blocks of ``step`` samples in order; threads read a few blocks ahead."""
    local = threading.local()
    readers: list[SampleReader] = []

    def open_reader() -> None:
        local.reader = data.open_reader()
        readers.append(local.reader)

    def read(first: int) -> Block:
        samples = np.arange(first, min(first + step, len(data.index)))
        return Block(first, *_read_samples(data, samples, local.reader))

    pool = ThreadPoolExecutor(num_workers, "intake", initializer=open_reader)
    ahead: deque[Future[Block]] = deque()
    try:
        for first in range(0, len(data.index), step):
            ahead.append(pool.submit(read, first))
            if len(ahead) > 2 * num_workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        for reader in readers:
            reader.close()


def _read_samples(
    data: SplitData, samples: Int64s, reader: SampleReader
) -> tuple[list[Pixels | CorruptSampleError], int]:
    """Return the pixels or error of each sample, and the bytes read for decoded ones."""
    images: list[Pixels | CorruptSampleError] = []
    encoded = 0
    for stored in reader.locate_all(samples, data.checked_rows(samples)):
        try:
            images.append(reader.pixels(stored))
            encoded += stored.length
        except CorruptSampleError as error:
            images.append(error.with_traceback(None))  # a traceback would keep the bytes alive
    return images, encoded
