"""Which samples, in which order: the sampling contract as pure arithmetic.

For a seed and an epoch a split has ONE global order, whatever the number of ranks, workers and
resumes. Shards are shuffled and laid end to end into a stream; the stream is cut into equally long
partitions; each partition is shuffled inside windows of consecutive shards; and position ``g`` of
the global order is the next sample of partition ``g % partitions``. So every global batch takes the
same number of samples from each partition, a node that owns a partition reads only its share, and
any position is found by a seek: memory is one window for each partition, never the data set.

The trade-off: samples of one window mix fully, samples of different windows never do. Shards are
dealt anew into windows every epoch, which is what makes that enough.
"""

import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsdl.core.errors import ConfigError
from rsdl.data.random import fingerprint, permutation

Int64s = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class OrderRule:
    """What a global order is a function of, beside the sizes of the shards.

    Attributes:
        seed: Seed of the run.
        epoch: Epoch, from 0.
        window: Consecutive shards that are shuffled together, at least 1.
        partitions: Equal parts that the stream is cut into, at least 1. Belongs to the run.
        shuffle: Whether to shuffle at all; without it the order is that of the index.
    """

    seed: int
    epoch: int
    window: int = 16
    partitions: int = 1
    shuffle: bool = True


class GlobalOrder:
    """The order of one split in one epoch, computed where it is asked for.

    Args:
        shard_samples: Samples in each shard, in the order of the index, ``[S]``, each at least 0.
        rule: What the order depends on.
    """

    def __init__(self, shard_samples: Int64s, rule: OrderRule) -> None:
        self.rule = rule
        sizes = np.asarray(shard_samples, dtype=np.int64)
        starts = np.concatenate(([0], np.cumsum(sizes)))
        self.num_samples = int(starts[-1])
        if rule.shuffle:
            dealt = permutation(len(sizes), rule.seed, rule.epoch, "shards")
        else:
            dealt = np.arange(len(sizes))
        self._shard_start = starts[dealt]  # in the index, by place in the stream
        self._edges = np.concatenate(([0], np.cumsum(sizes[dealt])))  # in the stream
        parts = np.arange(rule.partitions)
        lengths = -(-(self.num_samples - parts) // rule.partitions)
        self._part_edges = np.concatenate(([0], np.cumsum(np.maximum(lengths, 0))))
        self._windows: dict[int, Int64s] = {}
        self._shuffled: OrderedDict[tuple[int, int], Int64s] = OrderedDict()

    def at(self, positions: Int64s) -> Int64s:
        """Return the sample numbers at ``positions`` of the global order, each in ``[0, N)``."""
        positions = np.asarray(positions, dtype=np.int64)
        if not self.rule.shuffle:
            return positions
        part = positions % self.rule.partitions
        stream = self._part_edges[part] + positions // self.rule.partitions
        for number in np.unique(part):
            mine = part == number
            stream[mine] = self._shuffle(int(number), stream[mine])
        place = np.searchsorted(self._edges, stream, side="right") - 1
        return self._shard_start[place] + stream - self._edges[place]

    def shards_of(self, partition: int) -> Int64s:
        """Return the shards that a partition reads, as places in the stream, in order."""
        low, high = self._part_edges[partition], self._part_edges[partition + 1]
        first = np.searchsorted(self._edges, low, side="right") - 1
        last = np.searchsorted(self._edges, high, side="left")
        return np.arange(first, last)

    def _shuffle(self, partition: int, stream: Int64s) -> Int64s:
        edges = self._window_edges(partition)
        windows = np.searchsorted(edges, stream, side="right") - 1
        moved = np.empty_like(stream)
        for window in np.unique(windows):
            mine = windows == window
            start, stop = int(edges[window]), int(edges[window + 1])
            moved[mine] = (
                start + self._order_of(partition, int(window), stop - start)[stream[mine] - start]
            )
        return moved

    def _window_edges(self, partition: int) -> Int64s:
        if partition not in self._windows:
            low, high = self._part_edges[partition], self._part_edges[partition + 1]
            inside = self._edges[(self._edges > low) & (self._edges < high)]
            pieces = np.concatenate(([low], np.unique(inside)))
            self._windows[partition] = np.append(pieces[:: self.rule.window], high)
        return self._windows[partition]

    def _order_of(self, partition: int, window: int, size: int) -> Int64s:
        key = (partition, window)
        if key not in self._shuffled:
            # A batch may straddle two windows of each partition; older ones are never asked again.
            while len(self._shuffled) >= 2 * self.rule.partitions:
                self._shuffled.popitem(last=False)
            rule = self.rule
            self._shuffled[key] = permutation(size, rule.seed, rule.epoch, "window", *key)
        return self._shuffled[key]


@dataclass(frozen=True, slots=True)
class PlannedBatch:
    """What one rank reads for one (micro-)batch.

    Attributes:
        number: Number of the global batch within the epoch.
        draws: Name of each draw within the epoch, ``[B]``: random choices are functions of it. The
            sample number itself, unless samples are drawn repeatedly.
        samples: Sample numbers, ``[B]``.
        valid: Which rows count, ``[B]``; the others are padding.
        num_planned: Rows of the whole global batch that count.
    """

    number: int
    draws: Int64s
    samples: Int64s
    valid: NDArray[np.bool_]
    num_planned: int


@dataclass(frozen=True, slots=True)
class Share:
    """The part of every global batch that one process reads.

    Attributes:
        rank: Number of the process among all.
        world_size: Number of processes.
        accumulate: Micro-batches that one rank makes of its part.
    """

    rank: int = 0
    world_size: int = 1
    accumulate: int = 1

    @property
    def parts(self) -> int:
        """Equal parts that a global batch is cut into."""
        return self.world_size * self.accumulate


class SamplingPlan:
    """Global batches of one epoch of one split, and each rank's part of them.

    Args:
        order: The global order, of draws.
        global_batch: Samples in a batch over all ranks and accumulation steps.
        tail: What becomes of the last, incomplete batch: ``drop`` it, ``pad`` it with samples that
            do not count, or ``shrink`` it to the least that all ranks can share (evaluation).
        repeats: How often each sample is drawn in this epoch, ``[N]``; ``None`` draws each once.
    """

    def __init__(
        self,
        order: GlobalOrder,
        *,
        global_batch: int,
        tail: str = "drop",
        repeats: Int64s | None = None,
    ) -> None:
        self.order = order
        self.global_batch = global_batch
        self.tail = tail
        self._draw_edges = None if repeats is None else np.concatenate(([0], np.cumsum(repeats)))
        if global_batch % order.rule.partitions:
            raise ConfigError(
                "data.batch_size",
                f"{global_batch} samples cannot be taken evenly from {order.rule.partitions} "
                "partitions",
                f"use a multiple of {order.rule.partitions} or change data.partitions",
            )

    @property
    def num_samples(self) -> int:
        """Draws in the epoch, the dropped tail included."""
        return self.order.num_samples

    @property
    def num_planned(self) -> int:
        """Draws that the epoch delivers."""
        if self.tail == "drop":
            return self.num_samples // self.global_batch * self.global_batch
        return self.num_samples

    def num_batches(self, start: int = 0) -> int:
        """Return how many global batches remain from position ``start``."""
        left = max(self.num_samples - start, 0)
        return left // self.global_batch if self.tail == "drop" else -(-left // self.global_batch)

    def batches(self, share: Share, start: int = 0) -> Iterator[PlannedBatch]:
        """Yield the (micro-)batches of one rank, in order, from position ``start`` on.

        Raises:
            ConfigError: If a global batch cannot be cut into equal parts.
        """
        check_share(self.global_batch, share)
        for number in range(self.num_batches(start)):
            yield from self._cut(number, start + number * self.global_batch, share)

    def fingerprint(self) -> int:
        """Return the fingerprint of the draws that the epoch delivers, counted independently.

        It is the sum over all draws less the dropped tail, so it does not walk the order: what
        ranks and resumes really delivered must add up to the same. Takes about 10 ns a sample.
        """
        block = 1 << 20
        total = sum(
            fingerprint(np.arange(first, min(first + block, self.num_samples)))
            for first in range(0, self.num_samples, block)
        )
        dropped = self.order.at(np.arange(self.num_planned, self.num_samples))
        return (total - fingerprint(dropped)) % (1 << 64)

    def samples_of(self, draws: Int64s) -> Int64s:
        """Return the sample that each draw means."""
        if self._draw_edges is None:
            return draws
        return np.searchsorted(self._draw_edges, draws, side="right") - 1

    def _cut(self, number: int, first: int, share: Share) -> Iterator[PlannedBatch]:
        size = self.global_batch
        left = self.num_samples - first
        if left < size and self.tail == "shrink":
            size = math.ceil(left / share.parts) * share.parts
        positions = np.arange(first, first + size)
        # Partition by partition: neighbouring ranks, that is one node, share few partitions.
        positions = positions[np.argsort(positions % self.order.rule.partitions, kind="stable")]
        length = size // share.parts
        for micro in range(share.accumulate):
            begin = (share.rank * share.accumulate + micro) * length
            mine = positions[begin : begin + length]
            draws = self.order.at(mine % self.num_samples)
            yield PlannedBatch(
                number=number,
                draws=draws,
                samples=self.samples_of(draws),
                valid=mine < self.num_samples,
                num_planned=min(size, left),
            )


def check_share(global_batch: int, share: Share) -> None:
    """Refuse a global batch that ranks and accumulation steps cannot share equally."""
    if global_batch % share.parts:
        near = max(global_batch // share.parts, 1) * share.parts
        raise ConfigError(
            "data.batch_size",
            f"{global_batch} samples cannot be shared equally by {share.world_size} devices x "
            f"{share.accumulate} accumulation steps",
            f"use {near} or {near + share.parts}",
        )


def deal_parts(planned: PlannedBatch, num_workers: int) -> list[tuple[int, int, int]]:
    """Return which worker reads which rows of a batch, as ``(worker, start, stop)``."""
    size = len(planned.samples)
    num_parts = min(num_workers, size)
    edges = [size * part // num_parts for part in range(num_parts + 1)]
    return [
        ((part + planned.number) % num_workers, edges[part], edges[part + 1])
        for part in range(num_parts)
    ]


def balanced_repeats(labels: NDArray[np.integer], *, seed: int, epoch: int) -> Int64s:
    """Return how often to draw each sample so that every class is drawn equally often.

    An epoch stays as long as the split. Each class present gets the same number of draws (they
    differ by one where it does not divide), spread over its samples as evenly as possible; which
    samples get one draw more changes with the epoch.

    Args:
        labels: Class index of each sample, ``[N]``.
        seed: Seed of the run.
        epoch: Epoch, from 0.

    Returns:
        Draws of each sample, ``[N]``, adding up to ``N``.
    """
    repeats = np.zeros(len(labels), dtype=np.int64)
    classes = np.unique(labels)
    for place, label in enumerate(classes):
        members = np.flatnonzero(labels == label)
        # Spread the remainder over classes, rotating with the epoch.
        turn = (place + epoch) % len(classes)
        draws = (len(labels) + turn) // len(classes)
        repeats[members] = draws // len(members)
        extra = permutation(len(members), seed, epoch, "balance", int(label))
        repeats[members[extra[: draws % len(members)]]] += 1
    return repeats


def repeated_shards(shard_samples: Int64s, repeats: Int64s) -> Int64s:
    """Return the number of draws that fall into each shard, ``[S]``."""
    edges = np.concatenate(([0], np.cumsum(shard_samples)))
    totals = np.concatenate(([0], np.cumsum(repeats)))
    return np.diff(totals[edges])
