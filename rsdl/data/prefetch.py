"""Prefetch shards to this node's cache before the plan needs them.

Threads iterate over the rank's next shard requests and fetch each shard that no other process is
fetching. Shards of the current window are held, so they are not evicted. Shards of the next window
are fetched as long as no process on the node is short of space; shards already read are released.
If the cache cannot hold even one window, the shards that fit are held until they have been read,
and the loader reads the others by range, so no shard is fetched twice.

Nothing waits for the prefetcher, and it fails silently: the loader fetches a missing shard itself
and raises the error. So the prefetcher can be stopped, or do nothing, at any time.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from rsdl.core.errors import RsdlError
from rsdl.data.dataset import SplitData
from rsdl.data.index import Index
from rsdl.data.plan import SamplingPlan, Share
from rsdl.data.prefetch_schedule import ShardRequest, walk_requests, window_bytes
from rsdl.storage.store import FetchStatus, Held, ShardCache

logger = logging.getLogger(__name__)

NUM_THREADS = 4

# Seconds before retrying a shard that another process fetches, or that did not fit.
BUSY_S = 0.05
FULL_S = 1.0

# Each held copy is an open file, and a process may have about a thousand open files.
MAX_HELD = 256


class Prefetcher:
    """Fetches the shards of one rank for the rest of one epoch.

    Args:
        shard_cache: The node's cache of shards.
        index: Names and checksums of the shards.
        requests: Shard requests in order.
        lead: Samples that the loader reads ahead of the position that it reports.
    """

    def __init__(
        self, shard_cache: ShardCache, index: Index, requests: Iterator[ShardRequest], lead: int
    ) -> None:
        self._shard_cache = shard_cache
        self._index = index
        self._needs = requests
        self._lead = lead
        self._position = 0
        self._next: ShardRequest | None = None
        self._waiting: dict[ShardRequest, float] = {}  # monotonic time of the next attempt
        self._held: dict[
            ShardRequest, Held | None
        ] = {}  # None while it is fetched, or if that failed
        self._flying: set[ShardRequest] = set()  # being fetched by a thread of this object
        self._stopped = False
        self._turn = threading.Condition()
        self._source = threading.Lock()  # guards the request iterator, which may be slow

    def start(self, position: int) -> None:
        """Start the threads, with the shards needed from ``position`` on."""
        self._position = position
        for number in range(NUM_THREADS):
            threading.Thread(target=self._work, name=f"ahead-{number}", daemon=True).start()

    def tell(self, position: int) -> None:
        """Report that all samples before ``position`` have been read."""
        with self._turn:
            self._position = position
            behind = [
                request for request in (*self._held, *self._waiting) if request.stop <= position
            ]
            let_go = [self._held.pop(request, None) for request in behind]
            for request in behind:
                self._waiting.pop(request, None)
            still = {request.shard for request in (*self._held, *self._waiting)}
            if behind or self._is_due(self._next):
                self._turn.notify()
        for held in filter(None, let_go):
            held.close()
        for shard in {request.shard for request in behind} - still:
            self._shard_cache.release(self._index.shard_names[shard])

    def stop(self) -> None:
        """Release all shards and stop the threads; fetches in progress are completed."""
        with self._turn:
            self._stopped = True
            held = list(self._held.values())
            self._held.clear()
            self._waiting.clear()
            self._turn.notify_all()
        for each in filter(None, held):
            each.close()

    def _work(self) -> None:
        while (request := self._choose()) is not None:
            shard, urgent = request.shard, self._is_urgent(request)
            sha256s = self._index.shard_sha256s
            held: Held | FetchStatus | None = None
            try:
                held = self._shard_cache.fetch(
                    self._index.shard_names[shard],
                    None if sha256s is None else sha256s[shard],
                    urgent=urgent,
                )
            except RsdlError as error:
                logger.debug("%s: not fetched ahead: %s", self._index.shard_names[shard], error)
            except Exception:
                logger.warning("cannot fetch shards ahead", exc_info=True)
            self._settle(request, held, urgent=urgent)

    def _choose(self) -> ShardRequest | None:
        """Wait for a request to fetch now and return it; ``None`` after :meth:`stop`."""
        while True:
            self._draw()
            with self._turn:
                if self._stopped:
                    return None
                self._make_way()
                now = time.monotonic()
                # Fetch shards of later windows only once all urgent shards have space.
                urgent = [n for n in (*self._waiting, *self._flying) if self._is_urgent(n)]
                due = [request for request, at in self._waiting.items() if at <= now]
                request = min(due, key=_urgency, default=None)
                if request is not None and (self._is_urgent(request) or not urgent):
                    del self._waiting[request]
                    self._held[request] = None
                    self._flying.add(request)
                    return request
                if not self._is_due(self._next):
                    times = [at for at in self._waiting.values() if at > now]
                    self._turn.wait(min(times, default=now + FULL_S) - now)

    def _draw(self) -> None:
        """Move the requests that are due from the iterator to the waiting ones."""
        with self._source:
            self._next = self._next or next(self._needs, None)
            while (request := self._next) is not None and self._is_due(request):
                with self._turn:
                    if not self._stopped and request.stop > self._position:
                        self._waiting[request] = 0.0
                self._next = next(self._needs, None)

    def _make_way(self) -> None:
        """Release non-urgent shards if any process on the node lacks space for urgent ones."""
        early = [
            request for request, held in self._held.items() if held and not self._is_urgent(request)
        ]
        if early and self._shard_cache.is_pressed():
            for request in early:
                held = self._held.pop(request)
                if held is not None:
                    held.close()
                self._waiting[request] = time.monotonic() + FULL_S

    def _settle(
        self, request: ShardRequest, held: Held | FetchStatus | None, *, urgent: bool
    ) -> None:
        """Record the outcome of a fetch."""
        with self._turn:
            self._flying.discard(request)
            self._turn.notify_all()
            wanted = request in self._held and not self._stopped
            if isinstance(held, FetchStatus):
                if wanted:
                    self._wait_longer(request, held, urgent=urgent)
                return
            if wanted and sum(map(bool, self._held.values())) < MAX_HELD:
                self._held[request], held = held, None
        if held is not None:
            held.close()

    def _wait_longer(self, request: ShardRequest, refusal: FetchStatus, *, urgent: bool) -> None:
        half = (max(request.first, 0) + request.stop) / 2
        if refusal is FetchStatus.FULL and urgent and self._position > half:
            return  # keep it, to be released later; reading the rest by range is cheaper now
        del self._held[request]
        now = time.monotonic()
        self._waiting[request] = now + (BUSY_S if refusal is FetchStatus.BUSY else FULL_S)
        if refusal is FetchStatus.FULL and not urgent:
            for other in self._waiting:  # these would be refused too
                if not self._is_urgent(other):
                    self._waiting[other] = now + FULL_S

    def _is_due(self, request: ShardRequest | None) -> bool:
        return request is not None and request.early <= self._position + self._lead

    def _is_urgent(self, request: ShardRequest) -> bool:
        return request.first < self._position + self._lead


def _urgency(request: ShardRequest) -> int:
    return request.first


@contextmanager
def fetch_ahead(
    data: SplitData,
    plan: SamplingPlan,
    share: Share,
    *,
    start: int,
    lead: int,
    following: Callable[[], SamplingPlan] | None = None,
) -> Iterator[Callable[[int], None]]:
    """Fetch the shards that a loader will read while the block lasts.

    Args:
        data: The split.
        plan: The epoch's plan.
        share: The rank's part of each batch.
        start: Position in the global order to start at, in samples.
        lead: Samples that the loader reads ahead of the position that it reports.
        following: Returns the next epoch's plan, if there is a next epoch.

    Yields:
        A callback for the position before which all samples have been read.
    """
    shard_cache = data.store.shard_cache()
    if shard_cache is None:  # the store does not copy the shards it opens
        yield lambda _: None
        return
    if plan.order.rule.shuffle:  # otherwise shards are read one after another
        sizes = {
            shard.name: shard.bytes
            for split in data.manifest.splits.values()
            for shard in split.shards
        }
        shard_bytes = np.array([sizes[name] for name in data.index.shard_names], dtype=np.int64)
        shard_cache.expect(window_bytes(plan, share, shard_bytes), loud=share.rank == 0)
    requests = walk_requests(plan, share, start, following)
    prefetcher = Prefetcher(shard_cache, data.index, requests, lead)
    prefetcher.start(start)
    try:
        yield prefetcher.tell
    finally:
        prefetcher.stop()
