"""Which processes a command starts, and what their ends mean together."""

import pytest

from rsdl.config.run import RunConfig
from rsdl.config.trainer import TrainerConfig
from rsdl.core.errors import ConfigError
from rsdl.distributed.failure import Failure
from rsdl.distributed.launch import Node, combine_exit_codes, find_ending, plan_launch
from rsdl.distributed.node_rendezvous import Nodes
from rsdl.distributed.rank import RankInfo
from rsdl.train.trainer import fit_to_ranks, share_batch


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


def test_several_devices_and_nodes_are_started_with_their_places():
    plan = plan_launch(TrainerConfig(devices=2, num_nodes=3, rendezvous_s=9), Node(1, "head:4000"))
    assert plan == Nodes(3, 3, 2, 1, "head", 4000, "rsdl", 9)
    plan = plan_launch(TrainerConfig(devices=1, num_nodes="1:3"), Node(None, "head", "mine"))
    assert plan == Nodes(1, 3, 1, None, "head", 29500, "mine", 600)


OTHER, OWN = Failure(7, "rank 7", "is gone"), Failure(1, "rank 1", "trouble")


@pytest.mark.parametrize(
    ("codes", "failure", "asked", "code"),
    [
        ([0, 0], None, False, 0),
        ([2, 2], OTHER, False, 2),
        ([75, 75], None, False, None),  # all saved for a node that comes or goes
        ([75, 75], None, True, 75),
        ([75, 75], Failure(1, "rank 1", "was stopped", 75), False, None),
        ([1, 1], OTHER, False, None),
        ([1, 1], OTHER, True, 75),  # asked to stop while another was lost
        ([1, 1], OWN, False, 1),
        ([1, -9], OWN, True, 1),
        ([1, -9], None, False, 1),
        ([1, 1], None, False, None),  # only the store is gone
        ([69, 69], OTHER, False, None),
        ([69, 69], Failure(1, "rank 1", "is owned", 69), False, None),
    ],
)
def test_a_node_of_an_elastic_run_goes_on_unless_it_failed_itself(
    codes: list[int], failure: Failure | None, asked: bool, code: int | None
):
    assert find_ending(codes, failure, [0, 1], asked=asked) == code


@pytest.mark.parametrize("mixup", [0.0, 0.2])
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("batch", [8, 12, 30, 256])
def test_any_number_of_nodes_shares_the_global_batch(batch: int, accumulate: int, mixup: float):
    config = RunConfig.model_validate({
        "name": "run", "output": "runs", "model": {"name": "resnet50"},
        "data": {"url": "x", "batch_size": batch}, "augment": {"mixup": mixup},
        "trainer": {"num_nodes": "1:4", "devices": 2, "accumulate": accumulate},
    })  # fmt: skip
    most = share_batch(config, 8)
    assert most.accumulate <= accumulate
    for nodes in range(1, 5):
        share = share_batch(config, 2 * nodes)
        rows = share.rows_of(batch)
        assert rows <= most.rows_of(batch) and share.parts * rows >= batch
        assert not (mixup and rows % 2)


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


def test_an_elastic_run_needs_a_rendezvous():
    elastic = TrainerConfig(devices=1, num_nodes="1:3")
    with pytest.raises(ConfigError, match="HOST:PORT of a rsdl rendezvous"):
        plan_launch(elastic, Node(0))
    with pytest.raises(ConfigError, match="is 3 of 3 nodes"):
        plan_launch(elastic, Node(3, "head:1"))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("3:1", "MIN <= MAX"),
        ("0:2", "MIN:MAX"),
        ("a:b", "MIN:MAX"),
        (63, "in quotes"),
        (0, "greater"),
    ],
)
def test_a_wrong_number_of_nodes_is_refused(asked: object, message: str):
    with pytest.raises(ValueError, match=message):
        TrainerConfig.model_validate({"num_nodes": asked})


def test_devices_and_nodes_come_from_the_launcher():
    fitted = fit_to_ranks(TrainerConfig(accelerator="cpu"), RankInfo(5, 8, 1, 4))
    assert (fitted.devices, fitted.num_nodes) == (4, 2)
    alone = fit_to_ranks(TrainerConfig(accelerator="cpu"), None)
    assert (alone.devices, alone.num_nodes) == (1, 1)
    elastic = TrainerConfig(accelerator="cpu", num_nodes="1:3")
    assert fit_to_ranks(elastic, RankInfo(0, 2, 0, 1)).num_nodes == "1:3"


@pytest.mark.parametrize(
    ("fields", "rank_info", "where"),
    [
        ({"devices": 2}, RankInfo(0, 4, 0, 4), "trainer.devices"),
        ({"num_nodes": 1}, RankInfo(0, 4, 0, 2), "trainer.num_nodes"),
        ({}, RankInfo(0, 3, 0, 2), "trainer.devices"),
        ({"num_nodes": "1:3"}, RankInfo(0, 4, 0, 1), "trainer.num_nodes"),
    ],
)
def test_a_config_that_contradicts_the_launcher_is_refused(
    fields: dict[str, object], rank_info: RankInfo, where: str
):
    with pytest.raises(ConfigError) as caught:
        fit_to_ranks(TrainerConfig(accelerator="cpu", **fields), rank_info)
    assert caught.value.where == where
