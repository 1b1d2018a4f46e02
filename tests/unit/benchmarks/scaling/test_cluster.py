"""The model of a cluster draws what reading the real plan's batches would."""

import numpy as np
import pytest

from benchmarks.scaling.cluster import Cluster, Epoch, Imagery, NodeCache, simulate
from rsdl.data.plan import SamplingPlan, Share
from rsdl.data.prefetch_schedule import ShardRequest
from rsdl.data.shuffle import GlobalOrder, OrderRule


def cluster(nodes: int, cache_bytes: int) -> Cluster:
    return Cluster(nodes, 2, 100.0, 1e6, 4e6, cache_bytes)


def imagery(partitions: int) -> Imagery:
    return Imagery(48, 10, 1000, window=4, partitions=partitions, batch=2)


def shards_read(partitions: int, nodes: int) -> list[set[int]]:
    """Return the shards that each node's batches really hold."""
    data = imagery(partitions)
    order = GlobalOrder(np.full(48, 10), OrderRule(3, 0, 4, partitions))
    plan = SamplingPlan(order, global_batch=nodes * 2 * data.batch)
    return [
        {int(s) // 10 for batch in plan.batches(Share(node, nodes)) for s in batch.samples}
        for node in range(nodes)
    ]


# Fetched ahead are all shards of a window; of few samples a node may by chance get none.
@pytest.mark.parametrize(("partitions", "spare"), [(1, 6), (4, 1)])
def test_a_node_with_room_draws_each_shard_of_its_batches_once(partitions: int, spare: int):
    (epoch,) = simulate(cluster(4, 10**9), imagery(partitions), seed=3, epochs=1)
    for drawn, shards in zip(epoch.drawn, shards_read(partitions, 4), strict=True):
        assert 0 <= drawn / 1000 - len(shards) <= spare


def test_with_partitions_all_nodes_together_draw_the_data_set_once_without_they_all_draw_it():
    (own,) = simulate(cluster(4, 10_000), imagery(4), seed=0, epochs=1)
    (all_of_it,) = simulate(cluster(4, 10_000), imagery(1), seed=0, epochs=1)
    total = imagery(1).total_bytes
    assert sum(own.drawn) <= 1.2 * total  # shards at the edges of a partition are drawn twice
    assert sum(all_of_it.drawn) == 4 * total


def test_without_a_cache_each_node_draws_its_own_samples():
    (epoch,) = simulate(cluster(4, 0), imagery(1), seed=0, epochs=1)
    assert sum(epoch.drawn) == imagery(1).total_bytes


def test_a_cache_that_holds_the_data_set_draws_nothing_in_later_epochs():
    first, second = simulate(cluster(2, 10**9), imagery(1), seed=0, epochs=2)
    assert sum(first.drawn) == 2 * imagery(1).total_bytes and sum(second.drawn) == 0


def test_what_is_in_use_is_not_evicted():
    cache = NodeCache(2000, 1000)
    assert not cache.take(ShardRequest(0, 50, 0, 1)) and not cache.take(ShardRequest(10, 60, 0, 2))
    assert not cache.take(ShardRequest(20, 70, 0, 3)) and not cache.holds(3)
    assert not cache.take(ShardRequest(55, 90, 0, 4)) and cache.holds(4) and not cache.holds(1)
    assert cache.take(ShardRequest(58, 80, 0, 2))


def test_the_slowest_of_computing_link_and_store_decides():
    assert Epoch((1,), 3.0, 2.0, 1.0).bottleneck == "GPUs"
    assert (Epoch((1,), 1.0, 5.0, 2.0).bottleneck, Epoch((1,), 1.0, 5.0, 2.0).seconds) == (
        "a node's link", 5.0,
    )  # fmt: skip
