"""Threads -> batches, in plan order.

Decoding and resizing release the interpreter lock, so threads of the training process do what
others start worker processes for: no fork, no shared memory, no copies between processes, no start
up. Each thread owns a queue, a reader with its open files, and one contiguous part of every batch,
which it writes straight into the batch's tensor. A bounded number of batches is in flight.

The trade-off: the few microseconds of Python that each sample costs are shared by all threads, so a
thread is handed a whole part of a batch at a time and works through plain lists.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsdl.core.batch import Batch, Tally
from rsdl.core.errors import CorruptSampleError, DataError
from rsdl.data.crop import CropRule, crop_box
from rsdl.data.dataset import SplitData
from rsdl.data.decode import decode_image, resize_into
from rsdl.data.plan import PlannedBatch, SamplingPlan, Share, deal_parts
from rsdl.data.random import fingerprint, key_of, uniforms
from rsdl.data.reader import ShardReader
from rsdl.data.sample import EXTENSIONS

NUM_UNIFORMS = 12
TORCH_DTYPES = {"uint8": torch.uint8, "uint16": torch.uint16, "float32": torch.float32}


@dataclass(frozen=True, slots=True)
class LoadRule:
    """How samples become rows of a batch.

    Attributes:
        image_size: Side of the square image that travels, in pixels.
        crop: Which part of the image; random or central.
        on_corrupt: ``error`` or ``skip``.
        num_workers: Threads, at least 1.
        prefetch: Batches in flight, at least 1.
        pin_memory: Whether batches lie in page-locked memory, for copies that overlap compute.
    """

    image_size: int
    crop: CropRule
    on_corrupt: str = "error"
    num_workers: int = 2
    prefetch: int = 4
    pin_memory: bool = False


@dataclass(slots=True)
class _Slot:
    """A batch being filled by several threads."""

    planned: PlannedBatch
    images: Tensor
    pixels: NDArray[Any]
    targets: NDArray[np.int64]
    valid: NDArray[np.bool_]
    crop_uniforms: list[list[float]]
    parts_left: int
    encoded_bytes: int = 0
    decoded_bytes: int = 0
    error: BaseException | None = None
    ready: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def finish_part(self, encoded: int, decoded: int, error: BaseException | None) -> None:
        with self.lock:
            self.encoded_bytes += encoded
            self.decoded_bytes += decoded
            self.error = self.error or error
            self.parts_left -= 1
            if self.parts_left == 0:
                self.ready.set()


class BatchLoader:
    """The batches of one rank for the rest of one epoch.

    Iterating starts the threads; leaving the iteration, in whatever way, stops them.

    Args:
        data: The split to read.
        plan: Which samples, in which order.
        share: This rank's part.
        rule: How samples become rows.
        start: Position in the global order to begin at, in samples.
    """

    def __init__(
        self,
        data: SplitData,
        plan: SamplingPlan,
        share: Share,
        rule: LoadRule,
        start: int = 0,
    ) -> None:
        self.plan = plan
        self.start = start
        self.waited_s = 0.0
        self.skipped: list[str] = []
        self._data = data
        self._share = share
        self._rule = rule
        order = plan.order.rule
        self._crop_key = key_of(order.seed, order.epoch, "crop")
        self._augment_key = key_of(order.seed, order.epoch, "augment")

    def __len__(self) -> int:
        """Return the number of (micro-)batches that an iteration yields."""
        return self.plan.num_batches(self.start) * self._share.accumulate

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches in plan order; an error in a thread is raised here."""
        queues: list[queue.SimpleQueue[tuple[_Slot, int, int] | None]] = [
            queue.SimpleQueue() for _ in range(self._rule.num_workers)
        ]
        threads = [
            threading.Thread(target=self._work, args=(tasks,), name=f"load-{number}", daemon=True)
            for number, tasks in enumerate(queues)
        ]
        for thread in threads:
            thread.start()
        flight: deque[_Slot] = deque()
        try:
            for planned in self.plan.batches(self._share, self.start):
                slot = self._open_slot(planned)
                flight.append(slot)
                for worker, first, last in deal_parts(planned, self._rule.num_workers):
                    queues[worker].put((slot, first, last))
                if len(flight) > self._rule.prefetch:
                    yield self._close_slot(flight.popleft())
            while flight:
                yield self._close_slot(flight.popleft())
        finally:
            for slot in flight:
                slot.error = slot.error or GeneratorExit()
            for tasks in queues:
                tasks.put(None)
            for thread in threads:
                thread.join()

    def _open_slot(self, planned: PlannedBatch) -> _Slot:
        size, side = len(planned.samples), self._rule.image_size
        manifest = self._data.manifest
        images = torch.empty(
            (size, side, side, len(manifest.bands)),
            dtype=TORCH_DTYPES[manifest.dtype],
            pin_memory=self._rule.pin_memory,
        )
        count = self._rule.crop.num_uniforms
        return _Slot(
            planned=planned,
            images=images,
            pixels=images.numpy(),
            targets=np.zeros(size, dtype=np.int64),
            valid=planned.valid.copy(),
            crop_uniforms=uniforms(self._crop_key, planned.draws, count).tolist(),
            parts_left=min(self._rule.num_workers, size),
        )

    def _close_slot(self, slot: _Slot) -> Batch:
        if not slot.ready.is_set():
            begin = time.perf_counter()
            slot.ready.wait()
            self.waited_s += time.perf_counter() - begin
        if slot.error is not None:
            raise slot.error
        planned = slot.planned
        num_planned, num_valid = int(planned.valid.sum()), int(slot.valid.sum())
        numbers = uniforms(self._augment_key, planned.draws, NUM_UNIFORMS).astype(np.float32)
        return Batch(
            images=slot.images,
            targets=torch.from_numpy(slot.targets),
            valid=torch.from_numpy(slot.valid),
            samples=torch.from_numpy(planned.samples),
            uniforms=torch.from_numpy(numbers),
            num_planned=planned.num_planned,
            tally=Tally(
                planned=num_planned,
                delivered=num_valid,
                padded=len(planned.valid) - num_planned,
                skipped=num_planned - num_valid,
                encoded_bytes=slot.encoded_bytes,
                decoded_bytes=slot.decoded_bytes,
                fingerprint=fingerprint(planned.draws[planned.valid]),
            ),
        )

    def _work(self, tasks: "queue.SimpleQueue[tuple[_Slot, int, int] | None]") -> None:
        reader = ShardReader(self._data.store, self._data.index.shard_names)
        try:
            while (task := tasks.get()) is not None:
                slot, first, last = task
                error: BaseException | None = None
                encoded = decoded = 0
                try:
                    if slot.error is None:
                        encoded, decoded = self._fill(slot, first, last, reader)
                except BaseException as caught:  # raised again in the training loop
                    error = caught
                slot.finish_part(encoded, decoded, error)
        finally:
            reader.close()

    def _fill(self, slot: _Slot, first: int, last: int, reader: ShardReader) -> tuple[int, int]:
        """Read, decode, crop and resize rows ``first`` to ``last``; return bytes in and out."""
        index, manifest = self._data.index, self._data.manifest
        samples = slot.planned.samples[first:last]
        rows = index.rows[samples]
        self._check_labels(rows["label"], samples)
        slot.targets[first:last] = rows["label"]
        shards = index.shards_of(samples).tolist()
        places = zip(
            range(first, last),
            shards,
            rows["offset"].tolist(),
            rows["length"].tolist(),
            rows["extension"].tolist(),
            strict=True,
        )
        bands, dtype, crop = len(manifest.bands), np.dtype(manifest.dtype), self._rule.crop
        encoded = decoded = 0
        for row, shard, offset, length, kind in places:
            try:
                data = reader.read(shard, offset, length)
                pixels = decode_image(data, EXTENSIONS[kind], "", bands)
                if pixels.dtype != dtype:
                    raise CorruptSampleError("", f"has {pixels.dtype} pixels, the data set {dtype}")
            except CorruptSampleError as error:
                self._pass_over(slot, row, error)
                continue
            encoded += length
            decoded += pixels.nbytes
            top, left, height, width = crop_box(
                crop, pixels.shape[0], pixels.shape[1], slot.crop_uniforms[row]
            )
            resize_into(pixels[top : top + height, left : left + width], slot.pixels[row])
        return encoded, decoded

    def _check_labels(self, labels: NDArray[np.int32], samples: NDArray[np.int64]) -> None:
        num_classes = len(self._data.manifest.classes)
        wrong = (labels < 0) | (labels >= num_classes)
        if wrong.any():
            place = int(np.argmax(wrong))
            raise DataError(
                self._data.index.name(int(samples[place])),
                f"label {labels[place]} is out of range, the data set has {num_classes} classes "
                f"(0 to {num_classes - 1})",
                'mend the labels, then run "rsdl data index" or pack again',
            )

    def _pass_over(self, slot: _Slot, row: int, error: CorruptSampleError) -> None:
        """Take a sample that cannot be read out of the count, or raise the error with its name."""
        error.where = self._data.index.name(int(slot.planned.samples[row]))
        if self._rule.on_corrupt == "error":
            skip = "pass data.on_corrupt=skip to leave such samples out"
            error.remedy = f"{error.remedy}, or {skip}" if error.remedy else skip
            raise error
        # The mean of each band: after normalisation, nothing.
        mean = self._data.manifest.mean
        slot.pixels[row] = np.asarray(mean).astype(slot.pixels.dtype)
        slot.valid[row] = False
        self.skipped.append(str(error))
