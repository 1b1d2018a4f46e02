"""A snapshot holds what was, whatever is trained afterwards."""

from collections import OrderedDict, namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from rsdl.train.staging import stage_to_cpu

Pair = namedtuple("Pair", "left right")


def train_step(network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    network(torch.ones(4, 3)).sum().backward()
    optimizer.step()


def test_a_step_changes_neither_weights_nor_optimizer_of_a_snapshot():
    network = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    optimizer = torch.optim.AdamW(network.parameters())
    train_step(network, optimizer)
    state = {"state_dict": network.state_dict(), "optimizer_states": [optimizer.state_dict()]}
    copied = stage_to_cpu(state)
    before = [[t.clone() for t in tensors(tree)] for tree in (state, copied)]
    train_step(network, optimizer)
    assert all(map(torch.equal, before[0], before[1]))
    assert all(map(torch.equal, before[1], tensors(copied)))
    assert not all(map(torch.equal, before[0], tensors(state))), "the step must change something"


def tensors(tree: object) -> list[torch.Tensor]:
    if isinstance(tree, torch.Tensor):
        return [tree]
    if isinstance(tree, dict):
        tree = list(tree.values())
    return [t for node in tree for t in tensors(node)] if isinstance(tree, list | tuple) else []


def test_containers_keep_their_class_and_what_they_carry():
    state = nn.BatchNorm1d(3).state_dict()
    tree: Any = {"state": state, "pair": Pair([1], (2.0, None)), 3: "text", "empty": torch.empty(0)}
    copied = stage_to_cpu(tree)
    assert type(copied["state"]) is OrderedDict
    assert copied["state"]._metadata == state._metadata  # type: ignore[attr-defined]
    assert copied["pair"] == tree["pair"] and copied["pair"].left is not tree["pair"].left
    assert list(copied) == list(tree) and copied[3] == "text"


def test_tied_weights_stay_tied_and_take_no_more_room(tmp_path: Path):
    weight = torch.randn(200, 200)
    tree = {"a": weight, "b": weight, "other": weight[:100], "turned": weight.t()}
    copied = stage_to_cpu(tree)
    assert copied["a"] is copied["b"]
    assert copied["other"].shape == (100, 200) and copied["turned"].stride() == (1, 200)
    for name, tensor in tree.items():
        assert torch.equal(copied[name], tensor)
    torch.save({"a": copied["a"], "b": copied["b"]}, tmp_path / "tied")
    assert (tmp_path / "tied").stat().st_size < 1.5 * weight.nbytes


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_snapshot_of_a_device_is_complete_and_on_the_host():
    tree = [torch.full((4 << 20,), float(number), device="cuda") for number in range(8)]
    copied = stage_to_cpu(tree)
    for tensor in tree:
        tensor.zero_()
    torch.cuda.synchronize()
    for number, tensor in enumerate(copied):
        assert tensor.device.type == "cpu" and bool((tensor == number).all())
