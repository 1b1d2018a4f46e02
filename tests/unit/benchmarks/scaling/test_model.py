"""What a large run takes: the rules that the figures of docs/scaling.md follow."""

import json

import pytest

from benchmarks.scaling.model import (
    CARDS,
    RESULTS,
    UTILIZATION,
    LargeRun,
    draw,
    efficiency,
    exchange_s,
    link_needed,
    loading_ms,
    networks,
    parts,
    ring_bytes,
)
from benchmarks.scaling.run import limits
from rsdl.models.catalog import ARCHITECTURES

RUN = LargeRun(nodes=4, gpus=2, shards=64, shard_samples=64, epochs=3)


def test_every_architecture_has_an_assumed_utilization() -> None:
    assert set(UTILIZATION) == set(ARCHITECTURES)
    assert all(0 < share < 1 for share in UTILIZATION.values())


@pytest.mark.parametrize("card", CARDS)
def test_twice_the_utilization_is_half_the_time_but_never_above_the_peak(card: str) -> None:
    for net in networks():
        step = net.step_s(card, 64)
        assert net.step_s(card, 64, factor=2.0) == pytest.approx(step / 2)
        assert net.step_s(card, 64, factor=100.0) == pytest.approx(step * UTILIZATION[net.name])


def test_one_gpu_sends_nothing_and_many_send_nearly_twice_the_gradients() -> None:
    net = networks()[0]
    assert ring_bytes(net, 1, compressed=False) == 0
    assert ring_bytes(net, 2, compressed=False) == 4 * net.parameters
    assert ring_bytes(net, 1000, compressed=True) == pytest.approx(4 * net.parameters, rel=0.01)


def test_a_link_that_hides_the_exchange_costs_nothing_and_half_of_it_does() -> None:
    for net in networks():
        gbit = link_needed(net, "a100", RUN, compressed=True)
        assert efficiency(net, "a100", RUN, gbit * 1.001) == 1
        assert efficiency(net, "a100", RUN, gbit / 2) < 1
        step, exchange = net.step_s("a100", RUN.batch), exchange_s(net, 8, gbit, compressed=True)
        bare = efficiency(net, "a100", RUN, gbit, overlap=0.0)
        assert bare == pytest.approx(step / (step + exchange))


def test_loading_is_what_was_measured_and_lies_between_where_it_was_not() -> None:
    rows = json.loads((RESULTS / "loader_600.json").read_text())["tables"][0]["rows"]
    (measured,) = (row["facts"]["CPU ms/image"] for row in rows if row["name"] == "rsdl")
    assert loading_ms("rsdl", 600) == measured
    assert loading_ms("rsdl", 150) < loading_ms("rsdl", 256) < loading_ms("rsdl", 400)


def test_the_study_is_what_the_configs_train() -> None:
    assert len(networks()) * sum(part.epochs for part in parts()) == 8100
    assert [part.side_px for part in parts()] == [256, 600, 256]


def test_a_slow_store_or_link_is_named_as_the_limit() -> None:
    net = networks()[0]
    fast = LargeRun(nodes=1, gpus=1, shards=64, epochs=2, node_gbit=1e6, store_gbit=1e6)
    assert limits(net, "a100", fast, 0.0)[1] == "GPUs"
    few = {"nodes": 1, "gpus": 1, "shards": 64, "epochs": 2}
    assert limits(net, "a100", LargeRun(**few, node_gbit=1e-3, store_gbit=1e6), 0.0)[1] == (
        "a node's link"
    )
    assert limits(net, "a100", LargeRun(**few, node_gbit=1e6, store_gbit=1e-3), 0.0)[1] == (
        "the store"
    )


def test_a_cache_for_all_makes_the_store_give_each_node_the_data_once_at_most() -> None:
    total = RUN.shards * RUN.shard_bytes
    epochs = draw(RUN, partitions=RUN.nodes, cache_gb=2 * total / 1e9, epochs=60)
    assert sum(sum(epoch.drawn) for epoch in epochs) == RUN.nodes * total
    assert sum(epochs[-1].drawn) == 0
