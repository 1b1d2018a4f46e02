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

import numpy as np
from numpy.typing import NDArray

from rsdl.core.batch import Batch
from rsdl.core.errors import CorruptSampleError, DataError
from rsdl.data.crop import crop_box
from rsdl.data.dataset import SplitData
from rsdl.data.decode import decode_image, resize_into
from rsdl.data.index import Rows
from rsdl.data.plan import PlannedBatch, SamplingPlan, Share, deal_parts
from rsdl.data.random import key_of, uniforms
from rsdl.data.reader import ShardReader
from rsdl.data.sample import EXTENSIONS
from rsdl.data.slot import LoadRule, Slot, open_slot

__all__ = ["BatchLoader", "LoadRule"]

NUM_UNIFORMS = 12


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
        queues: list[queue.SimpleQueue[tuple[Slot, int, int] | None]] = [
            queue.SimpleQueue() for _ in range(self._rule.num_workers)
        ]
        threads = [
            threading.Thread(target=self._work, args=(tasks,), name=f"load-{number}", daemon=True)
            for number, tasks in enumerate(queues)
        ]
        for thread in threads:
            thread.start()
        flight: deque[Slot] = deque()
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

    def _open_slot(self, planned: PlannedBatch) -> Slot:
        numbers = uniforms(self._crop_key, planned.draws, self._rule.crop.num_uniforms)
        return open_slot(planned, self._data.manifest, self._rule, numbers.tolist())

    def _close_slot(self, slot: Slot) -> Batch:
        if not slot.ready.is_set():
            begin = time.perf_counter()
            slot.ready.wait()
            self.waited_s += time.perf_counter() - begin
        if slot.error is not None:
            raise slot.error
        return slot.to_batch(uniforms(self._augment_key, slot.planned.draws, NUM_UNIFORMS))

    def _work(self, tasks: "queue.SimpleQueue[tuple[Slot, int, int] | None]") -> None:
        reader = ShardReader(
            self._data.store, self._data.index.shard_names, self._data.index.shard_sha256s
        )
        try:
            while (task := tasks.get()) is not None:
                self._fill_part(*task, reader)
                del task  # or an idle thread would keep the memory of a batch
        finally:
            reader.close()

    def _fill_part(self, slot: Slot, first: int, last: int, reader: ShardReader) -> None:
        error: BaseException | None = None
        encoded = decoded = 0
        try:
            if slot.error is None:
                encoded, decoded = self._fill(slot, first, last, reader)
        except BaseException as caught:  # raised again in the training loop
            error = caught
        slot.finish_part(encoded, decoded, error)

    def _fill(self, slot: Slot, first: int, last: int, reader: ShardReader) -> tuple[int, int]:
        """Read, decode, crop and resize rows ``first`` to ``last``; return bytes in and out."""
        index, manifest = self._data.index, self._data.manifest
        samples = slot.planned.samples[first:last]
        rows = index.rows[samples]
        self._check_rows(rows, samples)
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
                top, left, height, width = crop_box(
                    crop, pixels.shape[0], pixels.shape[1], slot.crop_uniforms[row]
                )
                resize_into(pixels[top : top + height, left : left + width], slot.pixels[row])
            except CorruptSampleError as error:
                self._pass_over(slot, row, error)
                continue
            except Exception as error:
                error.add_note(f"while reading {index.name(int(samples[row - first]))}")
                raise
            encoded += length
            decoded += pixels.nbytes
        return encoded, decoded

    def _check_rows(self, rows: Rows, samples: NDArray[np.int64]) -> None:
        """Refuse rows of the index that nothing can be made of; all of a part at once."""
        num_classes = len(self._data.manifest.classes)
        labels, kinds = rows["label"], rows["extension"]
        wrong = (labels < 0) | (labels >= num_classes) | (kinds >= len(EXTENSIONS))
        if not wrong.any():
            return
        place = int(np.argmax(wrong))
        where = self._data.index.name(int(samples[place]))
        if kinds[place] >= len(EXTENSIONS):
            raise DataError(
                where,
                "the index does not say what kind of image it is",
                f'run "rsdl data verify {self._data.store.url}", then pack or index again',
            )
        raise DataError(
            where,
            f"label {labels[place]} is out of range, the data set has {num_classes} classes "
            f"(0 to {num_classes - 1})",
            'mend the labels, then run "rsdl data index" or pack again',
        )

    def _pass_over(self, slot: Slot, row: int, error: CorruptSampleError) -> None:
        """Take a sample that cannot be read out of the count, or raise the error with its name."""
        error.where = self._data.index.name(int(slot.planned.samples[row]))
        if self._rule.on_corrupt == "error":
            skip = "pass data.on_corrupt=skip to leave such samples out"
            error.remedy = f"{error.remedy}, or {skip}" if error.remedy else skip
            raise error
        # The mean of each band: after normalisation, nothing.
        mean = self._data.manifest.mean
        slot.pixels[row] = np.asarray(mean).astype(slot.pixels.dtype)
        if slot.valid[row]:  # padding was not to be counted anyway
            slot.valid[row] = False
            self.skipped.append(str(error))
