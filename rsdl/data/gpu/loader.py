"""Load batches whose JPEGs the training device decodes, for machines with few cores.

This is experimental: no GPU has run it yet. Only the data module knows of it.

Worker threads read the samples as usual and leave JPEGs encoded. One more thread decodes a whole
batch of them on the device, crops and resizes it there with the code for resident pixels, and
passes it on with a CUDA event, so the training step never blocks on the device. Images that the
device cannot decode (other formats, progressive or damaged JPEGs) are decoded on the host, whose
decoder alone decides which samples are corrupt. Samples, order, crops and ledger are those of
:mod:`rsdl.data.loader`; pixels are too, except for the differences stated in
:mod:`rsdl.data.gpu.decoder` and :mod:`rsdl.data.gpu.resample`.
"""

import logging
import queue
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from rsdl.core.batch import Batch
from rsdl.core.errors import CorruptSampleError
from rsdl.core.pixels import Pixels
from rsdl.data.batch_buffer import BatchBuffer, LoadRule
from rsdl.data.crop import crop_box, crop_boxes
from rsdl.data.dataset import SplitData
from rsdl.data.gpu.decoder import DeviceDecoder, lay_out
from rsdl.data.gpu.jpeg import Jpeg, read_jpeg
from rsdl.data.gpu.resample import resample, send
from rsdl.data.loader import BatchLoader
from rsdl.data.plan import PlannedBatch, SamplingPlan, Share
from rsdl.data.sample_loader import Cut, SampleLoader
from rsdl.distributed.rank import is_main

logger = logging.getLogger(__name__)

# Pixels decoded at once: a few hundred MB on the device, for any size of images.
CHUNK_PIXELS = 64 << 20


@dataclass(slots=True)
class DeviceBuffer(BatchBuffer):
    """A batch whose JPEGs a device decodes.

    Attributes:
        encoded: The JPEGs that the device will decode, by row, ``[B]``.
        landed: CUDA event after the device has produced the images; ``None`` if no wait is needed.
    """

    encoded: list[Jpeg | None] = field(default_factory=list)
    landed: "torch.cuda.Event | None" = None


class DeviceSampleLoader(SampleLoader):
    """Fills rows of batches, and leaves JPEGs encoded that the device can decode."""

    def _fill_row(
        self, buffer: BatchBuffer, row: int, data: bytes, extension: str, numbers: list[float]
    ) -> tuple[Cut, Pixels | None]:
        assert isinstance(buffer, DeviceBuffer)
        manifest = self._data.manifest
        jpeg = read_jpeg(data) if extension == "jpg" and manifest.dtype == "uint8" else None
        if jpeg is None or jpeg.bands != len(manifest.bands):
            return super()._fill_row(buffer, row, data, extension, numbers)
        buffer.encoded[row] = jpeg
        window = crop_box(self._rule.crop, jpeg.height, jpeg.width, numbers)
        return (*window, jpeg.height, jpeg.width), None

    def decode_here(self, buffer: BatchBuffer, row: int, jpeg: Jpeg) -> bool:
        """Fill a row from a JPEG that the device could not decode.

        Returns:
            Whether the row is filled; otherwise the sample was skipped.

        Raises:
            CorruptSampleError: If the host cannot decode it either, and ``on_corrupt`` is
                ``error``.
        """
        numbers = buffer.crop_uniforms[row].tolist()
        try:
            super()._fill_row(buffer, row, jpeg.data, "jpg", numbers)
        except CorruptSampleError as error:
            self._reader.name_error(error, int(buffer.planned.samples[row]))
            self._pass_over(buffer, row, error)
            return False
        return True


class DeviceLoader(BatchLoader):
    """The batches of one rank for the rest of one epoch; images are on the device.

    Args:
        data: The split to read, without a decoded cache.
        plan: The sampling plan of the epoch.
        share: This rank's part.
        rule: How samples become rows.
        start: Position in the global order to start at, in samples.
        decoder: The device's decoder.
    """

    buffer_type = DeviceBuffer
    sample_loader_type = DeviceSampleLoader

    def __init__(
        self,
        data: SplitData,
        plan: SamplingPlan,
        share: Share,
        rule: LoadRule,
        start: int = 0,
        *,
        decoder: DeviceDecoder,
    ) -> None:
        assert data.decoded_cache is None and data.decode_size is None
        super().__init__(data, plan, share, rule, start)
        self._decoder = decoder
        self._read: queue.SimpleQueue[DeviceBuffer | None] = queue.SimpleQueue()
        self._told = False

    def _batches(self) -> Generator[Batch, None, None]:
        thread = threading.Thread(target=self._land, name="load-device", daemon=True)
        thread.start()
        try:
            yield from super()._batches()
        finally:  # the reading threads have stopped
            self._read.put(None)
            thread.join()

    def _open_buffer(self, planned: PlannedBatch) -> BatchBuffer:
        buffer = super()._open_buffer(planned)
        assert isinstance(buffer, DeviceBuffer)
        buffer.encoded = [None] * len(planned.samples)
        buffer.parts_left += 1  # decoding on the device counts as a part
        return buffer

    def _close_buffer(self, buffer: BatchBuffer) -> Batch:
        assert isinstance(buffer, DeviceBuffer)
        batch = super()._close_buffer(buffer)
        self._decoder.hand_over(batch.images, buffer.landed)
        return batch

    def _fill_part(
        self, buffer: BatchBuffer, first: int, last: int, sample_loader: SampleLoader
    ) -> int:
        left = super()._fill_part(buffer, first, last, sample_loader)
        if left == 1:
            assert isinstance(buffer, DeviceBuffer)
            self._read.put(buffer)
        return left

    def _land(self) -> None:
        sample_loader = DeviceSampleLoader(self._data, self._rule, self.skipped)
        with self._decoder.work():
            while (buffer := self._read.get()) is not None:
                error: BaseException | None = None
                try:
                    if buffer.error is None:
                        self._decode(buffer, sample_loader)
                except BaseException as caught:  # raised again in the training loop
                    error = caught
                buffer.finish_part(0, 0, error)
                del buffer  # an idle thread must not keep a batch in memory

    def _decode(self, buffer: DeviceBuffer, sample_loader: DeviceSampleLoader) -> None:
        """Decode a batch that has been read, and move all its rows to the device."""
        waiting = [(row, jpeg) for row, jpeg in enumerate(buffer.encoded) if jpeg is not None]
        buffer.encoded = []
        rows: list[int] = []
        parts: list[Tensor] = []
        for chunk in cut_chunks(waiting, CHUNK_PIXELS):
            found = self._decoder.decode([jpeg for _, jpeg in chunk])
            images = []
            for (row, jpeg), image in zip(chunk, found, strict=True):
                if image is None:
                    self._decode_here(buffer, row, jpeg, sample_loader)
                else:
                    images.append(image)
                    rows.append(row)
            if images:
                parts.append(self._cut(buffer, rows[-len(images) :], images))
            del found, images
        buffer.images = self._merge(buffer, rows, parts)
        buffer.landed = self._decoder.mark()

    def _decode_here(
        self, buffer: DeviceBuffer, row: int, jpeg: Jpeg, sample_loader: DeviceSampleLoader
    ) -> None:
        """Decode an image on the host that the device rejected: corrupt, or unsupported there."""
        if not sample_loader.decode_here(buffer, row, jpeg):
            buffer.encoded_bytes -= len(jpeg.data)
            buffer.decoded_bytes -= jpeg.num_bytes
        elif not self._told:
            self._told = True
            logger.warning(
                "data.decode: %s does not decode %s: such images are decoded on the host",
                self._decoder.device, self._data.index.name(int(buffer.planned.samples[row])),
            )  # fmt: skip

    def _cut(self, buffer: BatchBuffer, rows: list[int], images: list[Tensor]) -> Tensor:
        """Crop and resize decoded images to their rows, ``[R, S, S, C]``."""
        store = lay_out(images)
        numbers = buffer.crop_uniforms[rows]
        boxes = crop_boxes(self._rule.crop, store.heights, store.widths, numbers)
        return resample(store, np.arange(len(rows)), boxes, self._rule.image_size)

    def _merge(self, buffer: BatchBuffer, rows: list[int], parts: list[Tensor]) -> Tensor:
        """Return all rows on the device: those decoded there, and those from the host."""
        device, num = self._decoder.device, len(buffer.images)
        if not rows:
            return buffer.images.to(device, non_blocking=True)
        made = parts[0] if len(parts) == 1 else torch.cat(parts)
        if len(rows) == num:
            return made
        others = np.setdiff1d(np.arange(num), rows)
        images = torch.empty((num, *made.shape[1:]), dtype=made.dtype, device=device)
        images.index_copy_(0, send(np.array(rows), device), made)
        sent = send(buffer.pixels[others], device)
        return images.index_copy_(0, send(others, device), sent)


def choose_decoder(data: SplitData, device: torch.device) -> DeviceDecoder | None:
    """Return a decoder on the device; ``None`` if the decoded cache of the split is complete.

    Raises:
        ConfigError: If the device cannot decode.
    """
    if data.decoded_cache is not None and data.decoded_cache.is_complete:
        if is_main():
            logger.info("data.decode: the pixels in data.decoded_cache are complete: they are read")
        return None
    decoder = DeviceDecoder(device)
    if device.type == "cpu" and is_main():
        logger.info("data.decode: the device is a processor, on which host is faster")
    return decoder


def cut_chunks(
    waiting: list[tuple[int, Jpeg]], num_pixels: int
) -> Iterator[list[tuple[int, Jpeg]]]:
    """Yield consecutive parts of at most ``num_pixels``, or of one image with more pixels."""
    chunk: list[tuple[int, Jpeg]] = []
    total = 0
    for row, jpeg in waiting:
        pixels = jpeg.height * jpeg.width
        if chunk and total + pixels > num_pixels:
            yield chunk
            chunk, total = [], 0
        chunk.append((row, jpeg))
        total += pixels
    if chunk:
        yield chunk
