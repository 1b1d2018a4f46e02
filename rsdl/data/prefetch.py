"""Shards on their way to this node before the plan asks for them.

Threads walk what the rank needs next and have each shard fetched that nobody fetches already. What
the loader reads now is held, so that nothing evicts it; the next window follows as far as there is
room that nobody is short of; what lies behind is let go. Where not even one window fits, what fits
is held until it has been read, and the loader reads the rest by range: nothing is fetched twice.

Nothing waits for a prefetcher and it fails silently: whoever needs a shard that did not come
fetches it, and meets the error. So it may be stopped, or do nothing, at any time.
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

# A shard that another fetches, or that had no room, is asked for again after so long.
BUSY_S = 0.05
FULL_S = 1.0

# Each copy that is held is an open file, of which a process may have about a thousand.
MAX_HELD = 256


class Prefetcher:
    """Fetches the shards of one rank for the rest of one epoch.

    Args:
        shard_cache: Where they go.
        index: Names and checksums of the shards.
        requests: Which are needed when, in order.
        lead: Samples that the loader reads ahead of the position that it tells.
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
        self._waiting: dict[ShardRequest, float] = {}  # when each is to be asked for
        self._held: dict[
            ShardRequest, Held | None
        ] = {}  # nothing while it is fetched, or where it failed
        self._flying: set[ShardRequest] = set()  # being fetched by a thread of ours
        self._stopped = False
        self._turn = threading.Condition()
        self._source = threading.Lock()  # of the walk, which may take its time

    def start(self, position: int) -> None:
        """Begin, with the shards that are needed from a position on."""
        self._position = position
        for number in range(NUM_THREADS):
            threading.Thread(target=self._work, name=f"ahead-{number}", daemon=True).start()

    def tell(self, position: int) -> None:
        """Say that everything before a position has been read."""
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
        """Let everything go; what is being fetched at the moment is fetched to its end."""
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
        """Wait for a need that is to be seen to now; ``None`` when there will be none."""
        while True:
            self._draw()
            with self._turn:
                if self._stopped:
                    return None
                self._make_way()
                now = time.monotonic()
                # What can wait does so until everything else has its room.
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
        """Take in the needs that may be fetched by now."""
        with self._source:
            self._next = self._next or next(self._needs, None)
            while (request := self._next) is not None and self._is_due(request):
                with self._turn:
                    if not self._stopped and request.stop > self._position:
                        self._waiting[request] = 0.0
                self._next = next(self._needs, None)

    def _make_way(self) -> None:
        """Let go of what can wait, where anybody on the node is short of room for what cannot."""
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
        """Note what has become of a need."""
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
            return  # stays known, to be let go; by now it is cheaper to read the rest by range
        del self._held[request]
        now = time.monotonic()
        self._waiting[request] = now + (BUSY_S if refusal is FetchStatus.BUSY else FULL_S)
        if refusal is FetchStatus.FULL and not urgent:
            for other in self._waiting:  # they would hear the same
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
        start: Position in the global order to begin at, in samples.
        lead: Samples that the loader reads ahead of the position that it tells.
        following: Makes the next epoch's plan, if there is a next one.

    Yields:
        What to tell the position to before which everything has been read.
    """
    shard_cache = data.store.shard_cache()
    if shard_cache is None:  # what is opened is not copied
        yield lambda _: None
        return
    if plan.order.rule.shuffle:  # else one shard after the other is read
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
