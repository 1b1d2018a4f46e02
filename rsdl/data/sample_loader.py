"""Fill rows of a batch: read, decode, crop and resize samples, or take their cached pixels.

A worker thread runs this for its part of a batch. Operations are vectorized over rows if possible:
the GIL serializes the Python code that runs for each sample.
"""

import logging
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from rsdl.core.errors import CorruptSampleError
from rsdl.core.image_size import height_width
from rsdl.core.pixels import Pixels
from rsdl.data.batch_buffer import BatchBuffer, LoadRule, open_buffer
from rsdl.data.compose import make_mosaic, paste, quarters
from rsdl.data.crop import crop_box, crop_boxes, position_choices
from rsdl.data.dataset import SplitData
from rsdl.data.decoded_cache.file import DecodedFile, KeptSamples
from rsdl.data.index import Rows
from rsdl.data.partners import PASTED, Partners
from rsdl.data.plan import PlannedBatch
from rsdl.data.resize import resize_into
from rsdl.data.targets.base import Cut as TargetCut
from rsdl.data.targets.base import Target, Window

logger = logging.getLogger(__name__)

Int64s = NDArray[np.int64]

# Top, left, height and width of a window, and height and width of its image, in pixels.
Cut = tuple[int, int, int, int, int, int]


class SampleLoader:
    """Fills rows of batches. Not thread-safe: use one per thread.

    Args:
        data: The split to read.
        rule: How samples become rows.
        skipped: List to which one line is appended for each skipped sample.
    """

    def __init__(self, data: SplitData, rule: LoadRule, skipped: list[str]) -> None:
        self._data = data
        self._rule = rule
        self._skipped = skipped
        self._reader = data.open_reader()
        self._pixel_bytes = len(data.manifest.bands) * np.dtype(data.manifest.dtype).itemsize
        self._writes = True
        self._buffer = np.empty(0, np.uint8)

    def close(self) -> None:
        """Close every shard, and seal the decoded cache if it is complete."""
        self._reader.close()
        if self._data.decoded_cache is not None:
            self._data.decoded_cache.settle()

    def fill(self, buffer: BatchBuffer, first: int, last: int) -> tuple[int, int]:
        """Fill rows ``first`` to ``last``, with what they are composed of.

        Returns:
            Bytes read from shards, and bytes of the full decoded images.
        """
        encoded, decoded = self._fill_own(buffer, first, last)
        if buffer.partners is not None:
            for row in range(first, last):
                more = self._compose(buffer, buffer.partners, row)
                encoded, decoded = encoded + more[0], decoded + more[1]
        return encoded, decoded

    def _fill_own(self, buffer: BatchBuffer, first: int, last: int) -> tuple[int, int]:
        """Fill rows with their own samples; return bytes read and decoded."""
        rows = self._data.checked_rows(buffer.planned.samples[first:last])
        targets = self._aim(buffer, first, last) if self._rule.crop.foreground else {}
        encoded, decoded = self._fill_pixels(buffer, first, rows)
        if buffer.target.in_index:
            buffer.targets[first:last] = rows["label"]
        else:
            encoded += self._fill_targets(buffer, first, rows, targets)
        return encoded, decoded

    def _compose(self, buffer: BatchBuffer, partners: Partners, row: int) -> tuple[int, int]:
        """Put its partners into a row; return bytes read and decoded.

        A partner that is skipped leaves its part of a mosaic at the mean, without an object.
        """
        needed = partners.needed(row, self._rule.compose)
        if not needed or not buffer.valid[row]:
            return 0, 0
        samples = partners.samples[row, needed]
        # None of them is planned: a corrupt one is told where it is.
        planned = PlannedBatch(0, samples, samples, np.zeros(len(samples), bool), 0)
        rule, crops = replace(self._rule, pin_memory=False), partners.crops[row, needed]
        read = open_buffer(planned, self._data.manifest, rule, crops)
        size = self._fill_own(read, 0, len(needed))
        others = dict(zip(needed, zip(read.pixels, read.targets, strict=True), strict=True))
        pixels, objects = buffer.pixels[row], buffer.targets[row]
        if mosaic := [others[number] for number in needed if number != PASTED]:
            regions = quarters(*height_width(self._rule.image_size), partners.centre(row))
            objects = make_mosaic(pixels, objects, mosaic, regions)
        if PASTED in others:
            other, theirs = others[PASTED]
            wanted = partners.choose_objects(int(buffer.planned.draws[row]), len(theirs))
            objects = paste(pixels, objects, other, theirs, wanted)
        buffer.targets[row] = objects
        return size

    def _aim(self, buffer: BatchBuffer, first: int, last: int) -> dict[int, Target]:
        """Move the boxes of rows to foreground; return the targets read, by row."""
        kind = buffer.target
        targets: dict[int, Target] = {}
        for row in range(first, last):
            try:
                target = self._reader.target(int(buffer.planned.samples[row]), kind)
            except CorruptSampleError:
                continue  # told when it is cropped
            positions = position_choices(buffer.crop_uniforms[row].tolist())
            chosen = kind.aim(target, partial(self._windows, positions))
            buffer.crop_uniforms[row] = positions[chosen]
            targets[row] = target
        return targets

    def _fill_pixels(self, buffer: BatchBuffer, first: int, rows: Rows) -> tuple[int, int]:
        """Fill the pixels of consecutive rows; return bytes read and decoded."""
        last = first + len(rows)
        samples = buffer.planned.samples[first:last]
        file = self._data.decoded_cache.file() if self._data.decoded_cache is not None else None
        if file is None:
            return self._fill_decoded(None, buffer, np.arange(first, last), rows)
        found = file.find(self._data.index.numbers(samples))
        decoded = self._fill_kept(file, buffer, first, found)
        if found.here.all():
            return 0, decoded
        rest = np.flatnonzero(~found.here)
        encoded, more = self._fill_decoded(file, buffer, first + rest, rows[rest])
        return encoded, decoded + more

    def _windows(self, positions: list[list[float]], height: int, width: int) -> Iterator[Window]:
        return (Window(*crop_box(self._rule.crop, height, width, each)) for each in positions)

    def _fill_targets(
        self, buffer: BatchBuffer, first: int, rows: Rows, read: dict[int, Target]
    ) -> int:
        """Crop the targets of filled rows as the pixels; return their bytes in shards."""
        kind, encoded, samples = buffer.target, 0, buffer.planned.samples
        ready: list[int] = []
        cuts: list[TargetCut] = []
        for row, length in enumerate(rows["target_length"].tolist(), first):
            window = Window(*buffer.windows[row].tolist())
            if not window.height:
                continue  # a corrupt image
            try:
                target = read[row] if row in read else self._reader.target(int(samples[row]), kind)
            except CorruptSampleError as error:
                self._pass_over(buffer, row, error)
                continue
            ready.append(row)
            cuts.append(TargetCut(target, window, tuple(buffer.sizes[row].tolist())))
            encoded += length
        cropped = kind.crop_all(cuts, self._rule.image_size)
        for row, target in zip(ready, cropped, strict=True):
            if isinstance(target, CorruptSampleError):
                self._reader.name_error(target, int(samples[row]))
                self._pass_over(buffer, row, target)
            else:
                buffer.targets[row] = target
        return encoded

    def _fill_kept(
        self, file: DecodedFile, buffer: BatchBuffer, first: int, found: KeptSamples
    ) -> int:
        """Crop rows from cached pixels, and return the bytes of the full images."""
        places = np.flatnonzero(found.here)
        heights, widths = found.heights[places], found.widths[places]
        boxes = crop_boxes(self._rule.crop, heights, widths, buffer.crop_uniforms[first + places])
        buffer.windows[first + places] = boxes
        buffer.sizes[first + places] = np.stack((heights, widths), axis=1)
        rows, offsets = (first + places).tolist(), found.offsets[places].tolist()
        for row, offset, width, box in zip(
            rows, offsets, widths.tolist(), boxes.tolist(), strict=True
        ):
            resize_into(file.view(offset, width, box), buffer.pixels[row])
        return int((heights * widths).sum()) * self._pixel_bytes

    def _fill_decoded(
        self, file: DecodedFile | None, buffer: BatchBuffer, places: Int64s, rows: Rows
    ) -> tuple[int, int]:
        """Read, decode, crop and resize rows ``places``; return bytes read and decoded."""
        samples = buffer.planned.samples[places]
        encoded = decoded = 0
        here: list[int] = []
        absent: list[int] = []
        filled: list[int] = []
        cuts: list[Cut] = []
        stored_images = self._reader.locate_all(samples, rows)
        kept_as = self._data.index.numbers(samples).tolist()
        numbers = buffer.crop_uniforms[places].tolist()
        for row, stored, number, own in zip(
            places.tolist(), stored_images, kept_as, numbers, strict=True
        ):
            try:
                data = self._reader.read(stored)
                cut, pixels = self._fill_row(buffer, row, data, stored.extension, own)
            except Exception as error:
                self._reader.name_error(error, stored.sample)
                if not isinstance(error, CorruptSampleError):
                    raise
                self._pass_over(buffer, row, error)
                absent.append(number)
                continue
            filled.append(row)
            cuts.append(cut)
            encoded += stored.length
            decoded += cut[4] * cut[5] * self._pixel_bytes
            if file is not None and pixels is not None and self._writes:
                self._keep(file, number, pixels, (absent, here))
        if filled:
            made = np.array(cuts, np.int32)
            buffer.windows[filled], buffer.sizes[filled] = made[:, :4], made[:, 4:]
        if file is not None:
            file.publish(here, absent)
        return encoded, decoded

    def _fill_row(
        self, buffer: BatchBuffer, row: int, data: bytes, extension: str, numbers: list[float]
    ) -> tuple[Cut, Pixels | None]:
        """Decode an image, crop and resize it into a row.

        Returns:
            The window and size of the crop, and the decoded image, if it was decoded here.
        """
        pixels = self._reader.decode(data, extension, self._buffer)
        if pixels.nbytes > len(self._buffer):
            self._buffer = np.empty(pixels.nbytes, np.uint8)
        size = pixels.shape[0], pixels.shape[1]
        top, left, height, width = crop_box(self._rule.crop, *size, numbers)
        resize_into(pixels[top : top + height, left : left + width], buffer.pixels[row])
        return (top, left, height, width, *size), pixels

    def _keep(
        self, file: DecodedFile, sample: int, pixels: Pixels, fate: tuple[list[int], list[int]]
    ) -> None:
        """Cache a sample's pixels, and append it to one list of ``fate``: (no space, stored)."""
        try:
            fate[file.put(sample, pixels)].append(sample)
        except OSError as error:
            self._writes = False
            logger.warning("data.decoded_cache: nothing more is kept: %s", error)

    def _pass_over(self, buffer: BatchBuffer, row: int, error: CorruptSampleError) -> None:
        """Skip an unreadable sample: mark its row invalid, or raise the error."""
        if self._rule.on_corrupt == "error":
            skip = "pass data.on_corrupt=skip to leave such samples out"
            error.remedy = f"{error.remedy}, or {skip}" if error.remedy else skip
            raise error
        # Fill with the mean of each band, which normalisation maps to 0.
        mean = self._data.manifest.mean
        buffer.pixels[row] = np.asarray(mean).astype(buffer.pixels.dtype)
        if buffer.planned.valid[row]:  # padding and partners do not count anyway
            buffer.valid[row] = False
            self._skipped.append(str(error))
