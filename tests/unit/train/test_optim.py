"""Optimizers and schedules are timm's; what we ask of them is tested here."""

import math

import pytest
import timm
import torch
from torch import nn

from rsdl.config.optim import OptimConfig
from rsdl.core.errors import ConfigError
from rsdl.train.optim import (
    build_optimizer,
    build_schedule,
    check_optimizer,
    has_fused,
    is_fused,
    may_fuse,
)


def rates(config: OptimConfig, *, steps_per_epoch: int, num_steps: int) -> list[float]:
    """Return the learning rate of every step."""
    optimizer = build_optimizer(config, nn.Linear(2, 2))
    schedule = build_schedule(
        config, optimizer, steps_per_epoch=steps_per_epoch, num_steps=num_steps
    )
    found = []
    for step in range(num_steps):
        found.append(max(group["lr"] for group in optimizer.param_groups))
        schedule.step_update(step + 1)
    return found


def test_cosine_warms_up_linearly_and_falls_to_the_least():
    config = OptimConfig(lr=1.0, warmup_epochs=2, min_lr=0.01, schedule="cosine")
    found = rates(config, steps_per_epoch=10, num_steps=100)
    assert found[0] == pytest.approx(0.01)
    assert found[20] == pytest.approx(1.0) and max(found) == found[20]
    for step in range(20):
        assert found[step] == pytest.approx(0.01 + 0.99 * step / 20)
    for step in range(20, 100):
        share = (step - 20) / 80
        expected = 0.01 + 0.99 * (1 + math.cos(math.pi * share)) / 2
        assert found[step] == pytest.approx(expected)


def test_step_falls_every_few_epochs():
    config = OptimConfig(lr=1.0, warmup_epochs=0, schedule="step", decay_epochs=3, decay_rate=0.5)
    found = rates(config, steps_per_epoch=4, num_steps=40)
    assert found == pytest.approx([0.5 ** (step // 12) for step in range(40)])


def test_constant_stays():
    config = OptimConfig(lr=0.3, warmup_epochs=1, schedule="constant")
    found = rates(config, steps_per_epoch=5, num_steps=30)
    assert found[5:] == pytest.approx([0.3] * 25) and found[0] < 0.01


@pytest.mark.parametrize("schedule", ["cosine", "step", "constant"])
@pytest.mark.parametrize("num_steps", [1, 2, 7])
def test_a_run_shorter_than_its_warm_up_still_has_rates(schedule: str, num_steps: int):
    config = OptimConfig(warmup_epochs=3, schedule=schedule)
    found = rates(config, steps_per_epoch=10, num_steps=num_steps)
    assert all(0 < rate <= config.lr for rate in found)


def test_layers_decay_from_the_head_down():
    network = timm.create_model("test_vit", num_classes=3)
    optimizer = build_optimizer(OptimConfig(lr=1.0, layer_decay=0.5), network)
    scales = {group["lr_scale"] for group in optimizer.param_groups}
    assert max(scales) == 1.0 and len(scales) > 2
    by_weight = {
        id(p): group["lr_scale"] for group in optimizer.param_groups for p in group["params"]
    }
    head, stem = network.head.weight, network.patch_embed.proj.weight
    assert by_weight[id(head)] == 1.0 and by_weight[id(stem)] == min(scales)
    schedule = build_schedule(
        OptimConfig(lr=1.0, layer_decay=0.5, warmup_epochs=0, schedule="constant"),
        optimizer,
        steps_per_epoch=5,
        num_steps=20,
    )
    schedule.step_update(3)
    for group in optimizer.param_groups:
        assert group["lr"] == pytest.approx(group["lr_scale"])


def test_biases_and_norms_do_not_decay():
    network = timm.create_model("test_resnet", num_classes=3)
    optimizer = build_optimizer(OptimConfig(weight_decay=0.1), network)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert (group["weight_decay"] == 0) == (parameter.ndim <= 1)


@pytest.mark.parametrize("name", ["adamw", "sgd", "lamb", "AdamW"])
def test_optimizers_go_by_name(name: str):
    check_optimizer(OptimConfig(name=name))
    network = nn.Linear(2, 2)
    optimizer = build_optimizer(OptimConfig(name=name), network)
    network(torch.ones(1, 2)).sum().backward()
    before = network.weight.clone()
    optimizer.step()
    assert not torch.equal(before, network.weight)


def test_an_optimizer_that_timm_does_not_have_is_refused():
    with pytest.raises(ConfigError, match=r'optim\.name: no optimizer "adamwow"; use one of'):
        check_optimizer(OptimConfig(name="adamwow"))


def test_which_optimizers_have_a_fused_kernel():
    names = ("adamw", "AdamW", "adam", "sgd", "lamb", "lion", "lookahead_adamw")
    assert [has_fused(name) for name in names] == [True, True, True, True, False, False, False]


@pytest.mark.parametrize("name", ["adamw", "sgd", "lamb", "lookahead_adamw"])
def test_a_fused_optimizer_moves_weights_as_the_loop_does(name: str):
    """On the CPU, which has fused kernels too; rsdl uses them on a GPU."""
    moved = []
    for fused in (False, True):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2))
        config = OptimConfig(name=name, lr=0.01, weight_decay=0.1)
        optimizer = build_optimizer(config, network, fused=fused)
        assert is_fused(optimizer) == (fused and has_fused(name))
        for _ in range(5):
            optimizer.zero_grad()
            network(torch.ones(3, 8)).square().sum().backward()
            optimizer.step()
        moved.append(torch.cat([weight.detach().flatten() for weight in network.parameters()]))
    assert torch.allclose(moved[0], moved[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("saved_fused", [False, True])
def test_a_loaded_state_does_not_decide_which_kernel_updates(saved_fused: bool):
    network = nn.Linear(4, 2)
    theirs = build_optimizer(OptimConfig(), network, fused=saved_fused)
    network(torch.ones(1, 4)).sum().backward()
    theirs.step()
    ours = build_optimizer(OptimConfig(), network, fused=not saved_fused)
    ours.load_state_dict(theirs.state_dict())
    assert is_fused(ours) != saved_fused
    assert all(state["step"] == 1 for state in ours.state.values())
    ours.step()


def test_the_cpu_keeps_the_loop():
    assert not may_fuse(nn.Linear(2, 2), "bf16-mixed")
    assert not may_fuse(nn.Linear(2, 2), "32-true")
