"""The prefetch schedule: the shards that a rank reads, with start and end positions.

It iterates over windows and not over samples, so a split of a billion samples costs no more than
one of a thousand: memory holds one window for each partition that the rank reads.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import merge
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from rsdl.data.plan import SamplingPlan, Share
from rsdl.data.shuffle import Window


@dataclass(frozen=True, slots=True)
class ShardRequest:
    """A shard and the range in which a rank reads it. Positions are in the global order.

    Attributes:
        first: Position from which it may be read: the start of its window.
        stop: Position from which it is no longer read.
        early: Position from which it may be fetched: where the previous window starts.
        shard: Number of the shard in the index.
    """

    first: int
    stop: int
    early: int
    shard: int


def walk_requests(
    plan: SamplingPlan,
    share: Share,
    start: int = 0,
    following: Callable[[], SamplingPlan] | None = None,
) -> Iterator[ShardRequest]:
    """Yield the shards that one rank needs from a position on, the most urgent first.

    All shards of a window are needed when it starts, since its samples are shuffled together. The
    few samples that pad the last batch are from the start of the epoch and not included.

    Args:
        plan: The epoch's plan.
        share: The rank's part of each batch.
        start: Position in the global order to start at, in samples.
        following: Returns the next epoch's plan, whose first windows are requested last.
    """
    end = start + plan.num_batches(start) * plan.global_batch
    parts = plan.partitions_of(share)
    latest = start
    walks = [_walk_partition(plan, share, part, start, end) for part in parts]
    for request in merge(*walks, key=_urgency):
        latest = max(latest, request.first)
        yield request
    if following is None:
        return
    order = following().order
    for part in parts:
        for window in islice(order.windows(part), 1):
            for shard in window.shards.tolist():
                yield ShardRequest(end + window.first, end + window.stop, latest, shard)


def window_bytes(plan: SamplingPlan, share: Share, shard_bytes: NDArray[np.int64]) -> int:
    """Return the most bytes of shards that a rank reads concurrently, in any epoch.

    Args:
        plan: Any epoch's plan.
        share: The rank's part of each batch.
        shard_bytes: Size of each shard, ``[S]``.
    """
    # The worst case over all shuffles: the largest shards, and in each partition one more, since
    # partition borders cut shards.
    count = (plan.order.rule.window + (plan.order.rule.partitions > 1)) * len(
        plan.partitions_of(share)
    )
    return int(np.sort(shard_bytes)[::-1][:count].sum())


def _urgency(request: ShardRequest) -> int:
    return request.first


def _walk_partition(
    plan: SamplingPlan, share: Share, partition: int, start: int, end: int
) -> Iterator[ShardRequest]:
    rule = plan.order.rule
    # Without a shuffle each shard is a window; prefetch as many as a shuffled window has.
    before = deque([start], maxlen=1 if rule.shuffle else rule.window)
    for window in plan.order.windows(partition, start):
        if window.first >= end:
            return
        if rule.shuffle or _is_touched(plan, share, start, window):
            for shard in window.shards.tolist():
                yield ShardRequest(window.first, window.stop, before[0], shard)
            before.append(max(window.first, start))


def _is_touched(plan: SamplingPlan, share: Share, start: int, window: Window) -> bool:
    """Return whether a rank reads any sample of a window, for an unshuffled order."""
    size = plan.global_batch
    first = (max(window.first, start) - start) // size
    last = (window.stop - 1 - start) // size
    for number in {first, min(first + 1, last), last}:
        begin = start + number * size
        left = plan.num_samples - begin
        whole = -(-left // share.parts) * share.parts if plan.tail == "shrink" else size
        length = min(size, whole) // share.world_size
        low = begin + share.rank * length
        if low < window.stop and window.first < low + length:
            return True
    return False
