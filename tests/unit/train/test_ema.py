"""The average of the weights is timm's, bit for bit, and follows weights that move."""

import copy
from typing import Any

import pytest
import timm
import torch
from timm.utils.model_ema import ModelEmaV3
from torch import nn

from rsdl.train.ema import WeightEma


def move(network: nn.Module) -> None:
    """Change every weight and every counter, as a training step does."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += torch.randn_like(parameter) / 10
    network.train()
    network(torch.randn(2, 3, 32, 32))  # batch norm counts


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit"])
def test_the_average_is_bit_equal_to_timms(name: str):
    torch.manual_seed(0)
    sizes: Any = {"img_size": 32} if "vit" in name else {}
    network = timm.create_model(name, num_classes=3, **sizes)
    ours = WeightEma(network, 0.9)
    theirs = ModelEmaV3(copy.deepcopy(network), decay=0.9, use_warmup=True, foreach=True)
    for step in range(1, 6):
        move(network)
        ours.update(network, step=step)
        theirs.update(network, step=step)
    mine, others = ours.module.state_dict(), theirs.module.state_dict()
    assert mine.keys() == others.keys()
    assert all(torch.equal(mine[key], others[key]) for key in mine)
    assert not any(torch.equal(mine[k], network.state_dict()[k]) for k in mine if "weight" in k)


def test_weights_that_were_moved_are_looked_up_anew():
    network = timm.create_model("test_resnet", num_classes=3)
    average = WeightEma(network, 0.9)
    move(network)
    average.update(network, step=1)  # the first step copies
    for part in (network, average):  # as a trainer does to a GPU and back; here to other memory
        part.to(torch.float64).to(torch.float32)
    average.forget()
    move(network)
    average.update(network, step=1)
    for mine, theirs in zip(
        average.module.state_dict().values(), network.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, theirs)
