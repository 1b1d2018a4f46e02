"""What a cluster draws from its store: the sampling plan replayed over nodes with caches.

No bytes move. Which shards a node needs, from when and until when, is asked of the very plan that
training follows (:mod:`rsdl.data.prefetch_schedule`); the cache is that of a node: least recently
used, nothing in use is evicted, and what has no room is read by range, sample by sample. Time is a
bound: an epoch takes as long as the slowest of computing, a node's link and the store.
"""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from rsdl.data.plan import SamplingPlan, Share
from rsdl.data.prefetch_schedule import ShardRequest, walk_requests
from rsdl.data.shuffle import GlobalOrder, OrderRule


@dataclass(frozen=True, slots=True)
class Cluster:
    """What trains, and on what.

    Attributes:
        nodes: Nodes.
        gpus: GPUs on each.
        images_per_s: Images that one GPU computes a second.
        node_bytes_per_s: What a node's link to the store carries.
        store_bytes_per_s: What the store gives to all together.
        cache_bytes: A node's cache; 0 reads by range.
    """

    nodes: int
    gpus: int
    images_per_s: float
    node_bytes_per_s: float
    store_bytes_per_s: float
    cache_bytes: int


@dataclass(frozen=True, slots=True)
class Imagery:
    """A data set and how it is read.

    Attributes:
        shards: Number of shards.
        shard_samples: Samples in each.
        shard_bytes: Bytes of each.
        window: Shards that are shuffled together.
        partitions: Parts that shards are dealt into.
        batch: Samples that one GPU takes at a step.
    """

    shards: int
    shard_samples: int
    shard_bytes: int
    window: int
    partitions: int
    batch: int

    @property
    def total_bytes(self) -> int:
        """Bytes of all shards."""
        return self.shards * self.shard_bytes


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one epoch takes.

    Attributes:
        drawn: Bytes that each node draws from the store.
        compute_s: Seconds that the GPUs compute.
        link_s: Seconds that the busiest link is busy.
        store_s: Seconds that the store is busy.
    """

    drawn: tuple[int, ...]
    compute_s: float
    link_s: float
    store_s: float

    @property
    def seconds(self) -> float:
        """The least that an epoch can take."""
        return max(self.compute_s, self.link_s, self.store_s)

    @property
    def bottleneck(self) -> str:
        """What decides how long it takes."""
        times = {"GPUs": self.compute_s, "a node's link": self.link_s, "the store": self.store_s}
        return max(times, key=lambda name: times[name])


class NodeCache:
    """One node's copies of shards, over any number of epochs.

    Args:
        size: Bytes.
        shard_bytes: Bytes of every shard.
    """

    def __init__(self, size: int, shard_bytes: int) -> None:
        self._room = size // shard_bytes
        self._copies: OrderedDict[int, int] = OrderedDict()  # shard -> position it is needed until

    def take(self, request: ShardRequest) -> bool:
        """Return whether a shard has a copy already; if not, and there is room, it has one now."""
        if request.shard in self._copies:
            self._copies[request.shard] = max(self._copies[request.shard], request.stop)
            self._copies.move_to_end(request.shard)
            return True
        while len(self._copies) >= self._room:
            idle = next((s for s, until in self._copies.items() if until <= request.first), None)
            if idle is None:
                return False
            del self._copies[idle]
        self._copies[request.shard] = request.stop
        return False

    def holds(self, shard: int) -> bool:
        """Return whether a shard has a copy."""
        return shard in self._copies

    def end_epoch(self) -> None:
        """Nothing is in use between epochs."""
        for shard in self._copies:
            self._copies[shard] = -1


def simulate(cluster: Cluster, imagery: Imagery, *, seed: int, epochs: int) -> list[Epoch]:
    """Return what each epoch takes.

    Args:
        cluster: Who trains.
        imagery: On what.
        seed: Of the order.
        epochs: How many, one after the other: caches live on.
    """
    caches = [NodeCache(cluster.cache_bytes, imagery.shard_bytes) for _ in range(cluster.nodes)]
    return [_run_epoch(cluster, imagery, caches, seed, epoch) for epoch in range(epochs)]


def _run_epoch(
    cluster: Cluster, imagery: Imagery, caches: list[NodeCache], seed: int, epoch: int
) -> Epoch:
    rule = OrderRule(seed, epoch, imagery.window, imagery.partitions)
    sizes = np.full(imagery.shards, imagery.shard_samples)
    world = cluster.nodes * cluster.gpus
    plan = SamplingPlan(GlobalOrder(sizes, rule), global_batch=imagery.batch * world)
    drawn = tuple(
        _draw(plan, Share(node, cluster.nodes), cache, imagery) for node, cache in enumerate(caches)
    )
    return Epoch(
        drawn,
        compute_s=plan.num_planned / (world * cluster.images_per_s),
        link_s=max(drawn) / cluster.node_bytes_per_s,
        store_s=sum(drawn) / cluster.store_bytes_per_s,
    )


def _draw(plan: SamplingPlan, share: Share, cache: NodeCache, imagery: Imagery) -> int:
    """Return the bytes that a node draws: whole shards into its cache, else its samples alone."""
    nodes_of_part = share.world_size / plan.order.rule.partitions
    # Of a shard that several nodes read, each reads its part.
    own_bytes = imagery.shard_bytes / max(nodes_of_part, 1.0)
    drawn = 0.0
    for request in walk_requests(plan, share):
        if not cache.take(request):
            drawn += imagery.shard_bytes if cache.holds(request.shard) else own_bytes
    cache.end_epoch()
    return int(drawn)
