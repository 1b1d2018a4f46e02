"""Sharded weights and compressed gradients train as plain DDP does, and their checkpoints fit."""

from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from tests.integration.conftest import Fault, Find, Ranks, Rsdl, Run, Write

pytestmark = pytest.mark.slow

FIELDS = {
    "model__name": "test_vit",
    "data__batch_size": 6,
    "trainer__max_epochs": 2,
    "optim__ema_decay": 0.9,
    "optim__clip_grad": 1.0,
    "optim__warmup_epochs": 0.0,
    "optim__lr": 1e-4,
}


def distance(left: "Run", right: "Run") -> float:
    """Return how far the weights of two runs are apart, relative to how far they lie from 0."""
    one, two = left.load()["state_dict"], right.load()["state_dict"]
    assert one.keys() == two.keys()
    assert all(type(value) is torch.Tensor for value in two.values())
    gap = sum(float((one[k].double() - two[k].double()).square().sum()) for k in one)
    size = sum(float(value.double().square().sum()) for value in one.values())
    return float((gap / size) ** 0.5)


def test_sharded_a_run_ends_as_with_ddp_and_moves_to_one_process_and_back(
    ranks: "Ranks", fault: "type[Fault]", write_config: "Write", run_at: "Find"
):
    plain, sharded = write_config("plain", **FIELDS), write_config("sharded", **FIELDS)
    assert ranks(2, "train", plain) == [0, 0], ranks.said(0)

    fsdp = "trainer.strategy=fsdp"
    codes = ranks(2, "train", sharded, fsdp, fault=fault("term", 1, 1))
    assert codes == [75, 75], ranks.said(0) + ranks.said(1)
    assert ranks(1, "train", sharded, fault=fault("term", 0, 3)) == [75], ranks.said(0)
    # To the end, with the test split, on shards again.
    assert ranks(2, "train", sharded, fsdp) == [0, 0], ranks.said(0) + ranks.said(1)

    assert run_at("sharded").record["ledger"] == run_at("plain").record["ledger"]
    assert run_at("sharded").record["optimizer_steps"] == 6
    assert distance(run_at("plain"), run_at("sharded")) < 1e-4
    states = [run_at(name).load()["optimizer_states"][0] for name in ("plain", "sharded")]
    for number, state in states[0]["state"].items():
        for name, value in state.items():
            assert states[1]["state"][number][name].shape == value.shape, name


def test_sharded_in_bf16_the_weights_that_are_updated_stay_whole(
    ranks: "Ranks", write_config: "Write", run_at: "Find"
):
    half = {**FIELDS, "trainer__precision": "bf16-mixed"}
    plain, sharded = write_config("plain", **half), write_config("sharded", **half)
    assert ranks(2, "train", plain) == [0, 0], ranks.said(0)
    assert ranks(2, "train", sharded, "trainer.strategy=fsdp") == [0, 0], ranks.said(0)
    state = run_at("sharded").load()["state_dict"]
    assert all(value.dtype == torch.float32 for value in state.values())
    assert 0 < distance(run_at("plain"), run_at("sharded")) < 1e-2


def test_compressed_gradients_are_close_to_whole_ones(
    ranks: "Ranks", write_config: "Write", run_at: "Find"
):
    plain = write_config("plain", **FIELDS)
    packed = write_config("packed", trainer__compress_gradients=True, **FIELDS)
    for config in (plain, packed):
        assert ranks(2, "train", config) == [0, 0], ranks.said(0)
    assert 0 < distance(run_at("plain"), run_at("packed")) < 1e-2


def test_what_does_not_go_together_is_refused_in_one_line(rsdl: "Rsdl", write_config: "Write"):
    config = write_config("run", **FIELDS)
    for fields, word in (
        (["trainer.sync_batchnorm=true"], "trainer.sync_batchnorm"),
        (["trainer.strategy=fsdp", "trainer.compress_gradients=true"], "compress_gradients"),
        (["trainer.num_nodes=2"], "--rdzv-endpoint"),
        (["--nnodes=2", "--node-rank=2", "--rdzv-endpoint=h:1"], "--node-rank"),
    ):
        ended = rsdl("train", config, *fields)
        assert ended.returncode == 2, ended
        assert word in ended.stderr and len(ended.stderr.strip().splitlines()) == 1
