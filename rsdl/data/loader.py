"""Load batches with worker threads, in plan order.

Decoding and resizing release the GIL, so threads of the training process replace worker processes:
no fork, no shared memory, no copies between processes, no startup time. Each thread owns a queue,
its open files, and one contiguous part of every batch, which it writes directly into the batch's
tensor. The number of batches in flight is bounded.

The trade-off: the few microseconds of Python for each sample are serialized by the GIL, so a thread
gets a whole part of a batch at a time and iterates over plain lists.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing

from rsdl.core.batch import Batch
from rsdl.core.rng import key_of, uniforms
from rsdl.data.batch_buffer import BatchBuffer, LoadRule, open_buffer
from rsdl.data.dataset import SplitData
from rsdl.data.partners import choose_partners
from rsdl.data.plan import PlannedBatch, SamplingPlan, Share, deal_parts
from rsdl.data.prefetch import fetch_ahead
from rsdl.data.sample_loader import SampleLoader

__all__ = ["BatchLoader", "LoadRule"]

NUM_UNIFORMS = 12


class BatchLoader:
    """The batches of one rank for the rest of one epoch.

    Iterating starts the threads; ending the iteration in any way stops them.

    Args:
        data: The split to read.
        plan: The sampling plan of the epoch.
        share: This rank's part.
        rule: How samples become rows.
        start: Position in the global order to start at, in samples.

    Attributes:
        waited_s: Seconds that the consumer has waited for batches.
        following: Returns the next epoch's plan; its first shards are prefetched at the end.
        buffer_type: Type of the batches being filled.
        sample_loader_type: Type of what fills their rows.
    """

    buffer_type: type[BatchBuffer] = BatchBuffer
    sample_loader_type: type[SampleLoader] = SampleLoader

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
        self.following: Callable[[], SamplingPlan] | None = None
        self._data = data
        self._share = share
        self._rule = rule
        self._threads_cpu_s = [0.0] * rule.num_workers
        order = plan.order.rule
        self._crop_key = key_of(order.seed, order.epoch, "crop")
        self._augment_key = key_of(order.seed, order.epoch, "augment")

    def __len__(self) -> int:
        """Return the number of (micro-)batches that an iteration yields."""
        return self.plan.num_batches(self.start) * self._share.accumulate

    @property
    def cpu_s(self) -> float:
        """CPU time that the threads have used so far, in seconds."""
        return sum(self._threads_cpu_s)

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches in plan order; re-raise an error of a thread."""
        with closing(self._batches()) as batches:
            if self._data.decoded_cache is not None and self._data.decoded_cache.is_complete:
                yield from batches  # no shard needs to be opened
                return
            size, done = self.plan.global_batch, 0
            ahead = fetch_ahead(
                self._data, self.plan, self._share, start=self.start,
                lead=(self._rule.prefetch + 1) * size, following=self.following,
            )  # fmt: skip
            with ahead as tell:
                for batch in batches:
                    done += 1
                    tell(self.start + done // self._share.accumulate * size)
                    yield batch
                    del batch  # free its memory while waiting for the next

    def _batches(self) -> Generator[Batch, None, None]:
        queues: list[queue.SimpleQueue[tuple[BatchBuffer, int, int] | None]] = [
            queue.SimpleQueue() for _ in range(self._rule.num_workers)
        ]
        threads = [
            threading.Thread(
                target=self._work, args=(tasks, number), name=f"load-{number}", daemon=True
            )
            for number, tasks in enumerate(queues)
        ]
        for thread in threads:
            thread.start()
        flight: deque[BatchBuffer] = deque()
        try:
            for planned in self.plan.batches(self._share, self.start):
                buffer = self._open_buffer(planned)
                flight.append(buffer)
                for worker, first, last in deal_parts(planned, self._rule.num_workers):
                    queues[worker].put((buffer, first, last))
                if len(flight) > self._rule.prefetch:
                    yield self._close_buffer(flight.popleft())
            while flight:
                yield self._close_buffer(flight.popleft())
        finally:
            for buffer in flight:
                buffer.error = buffer.error or GeneratorExit()
            for tasks in queues:
                tasks.put(None)
            for thread in threads:
                thread.join()
            if self._data.decoded_cache is not None:
                self._data.decoded_cache.tell_damage()

    def _open_buffer(self, planned: PlannedBatch) -> BatchBuffer:
        numbers = uniforms(self._crop_key, planned.draws, self._rule.crop.num_uniforms)
        buffer = open_buffer(planned, self._data.manifest, self._rule, numbers, self.buffer_type)
        if self._rule.compose.is_on:
            crop = self._rule.crop
            buffer.partners = choose_partners(self.plan, planned.draws, crop.num_uniforms)
        return buffer

    def _close_buffer(self, buffer: BatchBuffer) -> Batch:
        if not buffer.ready.is_set():
            begin = time.perf_counter()
            buffer.ready.wait()
            self.waited_s += time.perf_counter() - begin
        if buffer.error is not None:
            raise buffer.error
        return buffer.to_batch(uniforms(self._augment_key, buffer.planned.draws, NUM_UNIFORMS))

    def _work(
        self, tasks: "queue.SimpleQueue[tuple[BatchBuffer, int, int] | None]", number: int
    ) -> None:
        sample_loader = self.sample_loader_type(self._data, self._rule, self.skipped)
        try:
            while (task := tasks.get()) is not None:
                self._fill_part(*task, sample_loader)
                self._threads_cpu_s[number] = time.thread_time()
                del task  # an idle thread must not keep a batch in memory
        finally:
            sample_loader.close()

    def _fill_part(
        self, buffer: BatchBuffer, first: int, last: int, sample_loader: SampleLoader
    ) -> int:
        """Fill rows, and return the number of unfinished parts of the batch."""
        error: BaseException | None = None
        encoded = decoded = 0
        try:
            if buffer.error is None:
                encoded, decoded = sample_loader.fill(buffer, first, last)
        except BaseException as caught:  # raised again in the training loop
            error = caught
        return buffer.finish_part(encoded, decoded, error)
