"""The global order of a split in an epoch, independent of ranks, workers and resumes.

Shards are shuffled and concatenated into a stream; the stream is cut into partitions of equal
length; each partition is shuffled within windows of consecutive shards; and position ``g`` of the
global order is the next sample of partition ``g % partitions``. So every global batch takes the
same number of samples from each partition, a node that owns a partition reads only its shards, and
any position can be computed directly: memory holds one window per partition, never the dataset.

The trade-off: samples of one window mix fully, samples of different windows never do. This is
enough because shards are assigned to windows anew in every epoch.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rsdl.core.rng import permutation

Int64s = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class OrderRule:
    """The parameters of a global order, besides the sizes of the shards.

    Attributes:
        seed: Seed of the run.
        epoch: Epoch, from 0.
        window: Consecutive shards that are shuffled together, at least 1.
        partitions: Equal parts that the stream is cut into, at least 1; constant during a run.
        shuffle: Whether to shuffle; otherwise the order is that of the index.
    """

    seed: int
    epoch: int
    window: int = 16
    partitions: int = 1
    shuffle: bool = True


@dataclass(frozen=True, slots=True)
class Window:
    """Shards of one partition that are read concurrently.

    Attributes:
        first: Position in the global order of the first sample of these shards.
        stop: Position after the last one.
        shards: Numbers of the shards in the index, none of them empty, in stream order.
    """

    first: int
    stop: int
    shards: Int64s


class GlobalOrder:
    """The order of one split in one epoch, computed on demand.

    Args:
        shard_samples: Samples in each shard, in the order of the index, ``[S]``, each at least 0.
        rule: Parameters of the order.
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
        self._dealt = dealt
        self._starts = starts  # in the index
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
        return self._samples_at(stream)

    def neighbours(self, samples: Int64s, numbers: NDArray[np.float64]) -> Int64s:
        """Return samples from the window of each sample, so that no other shard is read for them.

        Args:
            samples: Sample numbers, ``[N]``.
            numbers: Numbers in ``[0, 1)``, each of which draws one sample evenly, ``[N, K]``.

        Returns:
            Sample numbers, ``[N, K]``; a sample may be drawn for itself.
        """
        shards = np.searchsorted(self._starts, samples, side="right") - 1
        stream = self._edges[self._place_of[shards]] + samples - self._starts[shards]
        parts = np.searchsorted(self._part_edges, stream, side="right") - 1
        drawn = np.empty(numbers.shape, np.int64)
        for part in np.unique(parts):
            edges, mine = self._window_edges(int(part)), parts == part
            windows = np.searchsorted(edges, stream[mine], side="right") - 1
            low, high = edges[windows, None], edges[windows + 1, None]
            drawn[mine] = low + (numbers[mine] * (high - low)).astype(np.int64)
        return self._samples_at(drawn)

    @cached_property
    def _place_of(self) -> Int64s:
        """Place of each shard in the stream."""
        return np.argsort(self._dealt)

    def _samples_at(self, stream: Int64s) -> Int64s:
        """Return the sample numbers at places of the stream before it is shuffled in windows."""
        place = np.searchsorted(self._edges, stream, side="right") - 1
        return self._shard_start[place] + stream - self._edges[place]

    def shards_of(self, partition: int) -> Int64s:
        """Return the shards of a partition, as positions in the shuffled list of shards."""
        low, high = self._part_edges[partition], self._part_edges[partition + 1]
        first = np.searchsorted(self._edges, low, side="right") - 1
        last = np.searchsorted(self._edges, high, side="left")
        return np.arange(first, last)

    def windows(self, partition: int, start: int = 0) -> Iterator[Window]:
        """Yield the windows of a partition that end after position ``start``, in order.

        The cost does not grow with the number of samples. An unshuffled order has one partition,
        and every shard is a window.
        """
        shuffle = self.rule.shuffle
        step = self.rule.partitions if shuffle else 1
        low = int(self._part_edges[partition]) if shuffle else 0
        edges = self._window_edges(partition) if shuffle else self._edges
        begin = low + max(-((partition - start) // step), 0)  # the first sample not yet read
        reached = max(int(np.searchsorted(edges, begin, side="right")) - 1, 0)
        for number in range(reached, len(edges) - 1):
            head, end = int(edges[number]), int(edges[number + 1])
            if end <= max(head, begin):
                continue
            places = np.arange(
                np.searchsorted(self._edges, head, side="right") - 1,
                np.searchsorted(self._edges, end, side="left"),
            )
            places = places[self._edges[places + 1] > self._edges[places]]
            first, last = ((stream - low) * step + partition for stream in (head, end - 1))
            yield Window(first, last + 1, self._dealt[places])

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
            # A batch may span two windows of each partition; older ones are not needed again.
            while len(self._shuffled) >= 2 * self.rule.partitions:
                self._shuffled.popitem(last=False)
            rule = self.rule
            self._shuffled[key] = permutation(size, rule.seed, rule.epoch, "window", *key)
        return self._shuffled[key]
