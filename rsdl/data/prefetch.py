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
from rsdl.data.needs import Need, walk_needs, window_bytes
from rsdl.data.plan import SamplingPlan, Share
from rsdl.storage.store import Copies, Held, Refusal

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
        copies: Where they go.
        index: Names and checksums of the shards.
        needs: Which are needed when, in order.
        lead: Samples that the loader reads ahead of the position that it tells.
    """

    def __init__(self, copies: Copies, index: Index, needs: Iterator[Need], lead: int) -> None:
        self._copies = copies
        self._index = index
        self._needs = needs
        self._lead = lead
        self._position = 0
        self._next: Need | None = None
        self._waiting: dict[Need, float] = {}  # when each is to be asked for
        self._held: dict[Need, Held | None] = {}  # nothing while it is fetched, or where it failed
        self._flying: set[Need] = set()  # being fetched by a thread of ours
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
            behind = [need for need in (*self._held, *self._waiting) if need.stop <= position]
            let_go = [self._held.pop(need, None) for need in behind]
            for need in behind:
                self._waiting.pop(need, None)
            still = {need.shard for need in (*self._held, *self._waiting)}
            if behind or self._is_due(self._next):
                self._turn.notify()
        for held in filter(None, let_go):
            held.close()
        for shard in {need.shard for need in behind} - still:
            self._copies.release(self._index.shard_names[shard])

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
        while (need := self._choose()) is not None:
            shard, urgent = need.shard, self._is_urgent(need)
            sha256s = self._index.shard_sha256s
            held: Held | Refusal | None = None
            try:
                held = self._copies.fetch(
                    self._index.shard_names[shard],
                    None if sha256s is None else sha256s[shard],
                    urgent=urgent,
                )
            except RsdlError as error:
                logger.debug("%s: not fetched ahead: %s", self._index.shard_names[shard], error)
            except Exception:
                logger.warning("cannot fetch shards ahead", exc_info=True)
            self._settle(need, held, urgent=urgent)

    def _choose(self) -> Need | None:
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
                due = [need for need, at in self._waiting.items() if at <= now]
                need = min(due, key=_urgency, default=None)
                if need is not None and (self._is_urgent(need) or not urgent):
                    del self._waiting[need]
                    self._held[need] = None
                    self._flying.add(need)
                    return need
                if not self._is_due(self._next):
                    times = [at for at in self._waiting.values() if at > now]
                    self._turn.wait(min(times, default=now + FULL_S) - now)

    def _draw(self) -> None:
        """Take in the needs that may be fetched by now."""
        with self._source:
            self._next = self._next or next(self._needs, None)
            while (need := self._next) is not None and self._is_due(need):
                with self._turn:
                    if not self._stopped and need.stop > self._position:
                        self._waiting[need] = 0.0
                self._next = next(self._needs, None)

    def _make_way(self) -> None:
        """Let go of what can wait, where anybody on the node is short of room for what cannot."""
        early = [need for need, held in self._held.items() if held and not self._is_urgent(need)]
        if early and self._copies.is_pressed():
            for need in early:
                held = self._held.pop(need)
                if held is not None:
                    held.close()
                self._waiting[need] = time.monotonic() + FULL_S

    def _settle(self, need: Need, held: Held | Refusal | None, *, urgent: bool) -> None:
        """Note what has become of a need."""
        with self._turn:
            self._flying.discard(need)
            self._turn.notify_all()
            wanted = need in self._held and not self._stopped
            if isinstance(held, Refusal):
                if wanted:
                    self._wait_longer(need, held, urgent=urgent)
                return
            if wanted and sum(map(bool, self._held.values())) < MAX_HELD:
                self._held[need], held = held, None
        if held is not None:
            held.close()

    def _wait_longer(self, need: Need, refusal: Refusal, *, urgent: bool) -> None:
        half = (max(need.first, 0) + need.stop) / 2
        if refusal is Refusal.FULL and urgent and self._position > half:
            return  # stays known, to be let go; by now it is cheaper to read the rest by range
        del self._held[need]
        now = time.monotonic()
        self._waiting[need] = now + (BUSY_S if refusal is Refusal.BUSY else FULL_S)
        if refusal is Refusal.FULL and not urgent:
            for other in self._waiting:  # they would hear the same
                if not self._is_urgent(other):
                    self._waiting[other] = now + FULL_S

    def _is_due(self, need: Need | None) -> bool:
        return need is not None and need.early <= self._position + self._lead

    def _is_urgent(self, need: Need) -> bool:
        return need.first < self._position + self._lead


def _urgency(need: Need) -> int:
    return need.first


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
    copies = data.store.copies()
    if copies is None:  # what is opened is not copied
        yield lambda _: None
        return
    if plan.order.rule.shuffle:  # else one shard after the other is read
        sizes = {
            shard.name: shard.bytes
            for split in data.manifest.splits.values()
            for shard in split.shards
        }
        shard_bytes = np.array([sizes[name] for name in data.index.shard_names], dtype=np.int64)
        copies.expect(window_bytes(plan, share, shard_bytes), loud=share.rank == 0)
    needs = walk_needs(plan, share, start, following)
    prefetcher = Prefetcher(copies, data.index, needs, lead)
    prefetcher.start(start)
    try:
        yield prefetcher.tell
    finally:
        prefetcher.stop()
