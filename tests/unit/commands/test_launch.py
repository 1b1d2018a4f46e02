"""Which processes a command starts, and what their ends mean together."""

import pytest

from rsdl.commands.launch import LaunchPlan, Node, combine_exit_codes, environment_of, plan_launch
from rsdl.config.trainer import TrainerConfig
from rsdl.core.errors import ConfigError
from rsdl.distributed.rank import RankInfo, find_rank
from rsdl.distributed.rendezvous import RendezvousPoint
from rsdl.train.trainer import fit_to_ranks


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ([0, 0], 0),
        ([75, 75], 75),
        ([75, 0], 75),
        ([2, 2], 2),
        ([2, 1], 2),  # another try cannot help
        ([1, 75], 1),
        ([-9, 1], 1),
        ([0, -11], 1),
        ([130, 130], 130),
        ([130, 75], 130),
        ([69, 75], 69),
        ([69, 1], 1),
        ([69, 2], 2),
    ],
)
def test_the_ranks_exit_codes_become_one(codes: list[int], code: int):
    assert combine_exit_codes(codes) == code
    assert combine_exit_codes(codes[::-1]) == code


def test_one_device_needs_no_other_process():
    assert plan_launch(TrainerConfig(accelerator="cpu"), Node()) is None
    assert plan_launch(TrainerConfig(accelerator="cpu", devices=1), Node()) is None


def test_several_devices_and_nodes_are_started_with_their_places(
    monkeypatch: pytest.MonkeyPatch,
):
    plan = plan_launch(TrainerConfig(devices=2, num_nodes=3), Node(1, "head:4000"))
    assert plan == LaunchPlan(1, 3, 2, "head", 4000)
    point = RendezvousPoint("head", 4000, True, "rsdl-0")
    places = []
    for local_rank in range(2):
        for name, value in environment_of(plan, local_rank, point).items():
            monkeypatch.setenv(name, value)
        places.append(find_rank())
    assert places == [RankInfo(2, 6, 0, 2), RankInfo(3, 6, 1, 2)]


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (Node(), "--rdzv-endpoint HOST:PORT"),
        (Node(0), "--rdzv-endpoint HOST:PORT"),
        (Node(None, "head:1"), "--node-rank"),
        (Node(2, "head:1"), "count from 0"),
        (Node(0, "head:port"), "is not HOST:PORT"),
        (Node(0, "head:99999"), "is not HOST:PORT"),
    ],
)
def test_a_node_that_does_not_know_its_place_is_told(node: Node, message: str):
    with pytest.raises(ConfigError, match=message):
        plan_launch(TrainerConfig(devices=1, num_nodes=2), node)


def test_devices_and_nodes_come_from_the_launcher():
    fitted = fit_to_ranks(TrainerConfig(accelerator="cpu"), RankInfo(5, 8, 1, 4))
    assert (fitted.devices, fitted.num_nodes) == (4, 2)
    alone = fit_to_ranks(TrainerConfig(accelerator="cpu"), None)
    assert (alone.devices, alone.num_nodes) == (1, 1)


@pytest.mark.parametrize(
    ("fields", "rank_info", "where"),
    [
        ({"devices": 2}, RankInfo(0, 4, 0, 4), "trainer.devices"),
        ({"num_nodes": 1}, RankInfo(0, 4, 0, 2), "trainer.num_nodes"),
        ({}, RankInfo(0, 3, 0, 2), "trainer.devices"),
    ],
)
def test_a_config_that_contradicts_the_launcher_is_refused(
    fields: dict[str, int], rank_info: RankInfo, where: str
):
    with pytest.raises(ConfigError) as caught:
        fit_to_ranks(TrainerConfig(accelerator="cpu", **fields), rank_info)
    assert caught.value.where == where
