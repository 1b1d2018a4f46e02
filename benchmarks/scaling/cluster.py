"""Traffic of a cluster's store: the sampling plan replayed over nodes with caches.

No bytes move. The training's own plan (:mod:`rsdl.data.prefetch_schedule`) says which shards a node
needs, from when and until when. A node's cache is LRU; entries in use are not evicted, and samples
of shards without room are read by range, one by one. Time is a lower bound: an epoch takes as long
as the slowest of computing, a node's link and the store.
"""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from rsdl.data.plan import SamplingPlan, Share
from rsdl.data.prefetch_schedule import ShardRequest, walk_requests
from rsdl.data.shuffle import GlobalOrder, OrderRule


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster that trains.

    Attributes:
        nodes: Nodes.
        gpus: GPUs on each.
        images_per_s: Images per second that one GPU computes.
        node_bytes_per_s: Bandwidth of a node's link to the store.
        store_bytes_per_s: Total bandwidth of the store.
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
        partitions: Number of parts that the shards are divided into.
        batch: Samples per GPU and step.
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
    """Cost of one epoch.

    Attributes:
        drawn: Bytes that each node reads from the store.
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
        """Lower bound of the epoch's duration."""
        return max(self.compute_s, self.link_s, self.store_s)

    @property
    def bottleneck(self) -> str:
        """The resource that determines the duration."""
        times = {"GPUs": self.compute_s, "a node's link": self.link_s, "the store": self.store_s}
        return max(times, key=lambda name: times[name])


class NodeCache:
    """One node's cached shards, over any number of epochs.

    Args:
        size: Size limit in bytes.
        shard_bytes: Bytes of every shard.
    """

    def __init__(self, size: int, shard_bytes: int) -> None:
        self._room = size // shard_bytes
        self._copies: OrderedDict[int, int] = OrderedDict()  # shard -> last position that needs it

    def take(self, request: ShardRequest) -> bool:
        """Return whether a shard is cached; if not, cache it where there is room."""
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
        """Return whether a shard is cached."""
        return shard in self._copies

    def end_epoch(self) -> None:
        """Mark all entries as unused, as they are between epochs."""
        for shard in self._copies:
            self._copies[shard] = -1


def simulate(cluster: Cluster, imagery: Imagery, *, seed: int, epochs: int) -> list[Epoch]:
    """Return the cost of each epoch.

    Args:
        cluster: The cluster.
        imagery: The data set.
        seed: Seed of the order.
        epochs: Number of consecutive epochs; caches persist between them.
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
    """Return the bytes that a node reads: whole shards if cached, else its own samples only."""
    nodes_of_part = share.world_size / plan.order.rule.partitions
    # Of a shard that several nodes share, each node reads only its samples.
    own_bytes = imagery.shard_bytes / max(nodes_of_part, 1.0)
    drawn = 0.0
    for request in walk_requests(plan, share):
        if not cache.take(request):
            drawn += imagery.shard_bytes if cache.holds(request.shard) else own_bytes
    cache.end_epoch()
    return int(drawn)
