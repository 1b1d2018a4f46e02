"""What is done to a network before it is trained."""

import pytest
import torch

from rsdl.config.model import ModelConfig
from rsdl.core.errors import ConfigError
from rsdl.models.catalog import build_model
from rsdl.train.compile import checkpoint_activations


def gradients(name: str, *, anew: bool) -> tuple[list[torch.Tensor], int]:
    """Return the gradients of a step, and how often the first block was computed."""
    torch.manual_seed(0)
    network = build_model(
        ModelConfig(name=name, drop_path_rate=0.5), num_classes=3, in_chans=3, image_size=64
    ).train()
    if anew:
        checkpoint_activations(network, name)
    calls: list[int] = []
    blocks = network.blocks if hasattr(network, "blocks") else network.stages[0].blocks
    blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))
    torch.manual_seed(1)
    network(torch.randn(4, 3, 64, 64)).square().sum().backward()
    return [weight.grad for weight in network.parameters() if weight.grad is not None], len(calls)


@pytest.mark.parametrize("name", ["test_vit", "test_convnext"])
def test_activations_that_are_computed_anew_give_the_same_gradients(name: str):
    whole, once = gradients(name, anew=False)
    again, twice = gradients(name, anew=True)
    assert (once, twice) == (1, 2)
    # Stochastic depth draws the same numbers both times.
    assert len(whole) == len(again)
    assert all(torch.equal(a, b) for a, b in zip(whole, again, strict=True))


def test_batch_norm_would_count_every_batch_twice():
    network = build_model(ModelConfig(name="test_resnet"), num_classes=3, in_chans=3, image_size=64)
    with pytest.raises(ConfigError, match=r"test_resnet has batch norm.*raise trainer\.accumulate"):
        checkpoint_activations(network, "test_resnet")
