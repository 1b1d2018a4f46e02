"""Optimizers and learning-rate schedules, all from timm's factories."""

import inspect
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from rsdl.config.optim import OptimConfig
from rsdl.core.errors import ConfigError


def check_optimizer(config: OptimConfig) -> None:
    """Check that timm has the optimizer.

    Raises:
        ConfigError: If not; the message lists timm's optimizers.
    """
    from timm.optim._optim_factory import list_optimizers

    known = [str(name) for name in list_optimizers()]
    if config.name.lower() not in known:
        raise ConfigError(
            "optim.name", f'no optimizer "{config.name}"', f"use one of {', '.join(known)}"
        )


def build_optimizer(
    config: OptimConfig, network: nn.Module, *, fused: bool = False
) -> torch.optim.Optimizer:
    """Return the optimizer over a network's weights.

    Args:
        config: Name and hyperparameters of the optimizer.
        network: Network, on the device that it is trained on.
        fused: Whether to update all weights in one kernel if the optimizer has one. Its rounding
            differs from that of the loop over weights.
    """
    from timm.optim._optim_factory import create_optimizer_v2

    # timm's "sgd" uses Nesterov momentum, which must not be 0.
    name = "momentum" if config.name == "sgd" and not config.momentum else config.name
    able = has_fused(name)
    kind: dict[str, Any] = {"fused": True} if fused and able else {}
    optimizer: torch.optim.Optimizer = create_optimizer_v2(
        network,
        opt=name,
        lr=config.lr,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
        layer_decay=config.layer_decay,
        **kind,
    )
    if able:
        optimizer.register_load_state_dict_pre_hook(_keep_kind)
    return optimizer


def has_fused(name: str) -> bool:
    """Return whether a timm optimizer can update all weights in one kernel."""
    from timm.optim._optim_factory import get_optimizer_class

    if "_" in name:  # such as lookahead_adamw, which wraps another
        return False
    kind = get_optimizer_class(name.lower(), bind_defaults=False)
    return "fused" in inspect.signature(kind).parameters


def may_fuse(network: nn.Module, precision: str | int | None) -> bool:
    """Return whether a fused optimizer may update a network's weights.

    Not on the CPU, where a fused update would round differently from earlier runs and gain nothing;
    not for sharded weights; and not in fp16, whose gradients must be unscaled before clipping.

    Args:
        network: Network, on the device that it is trained on.
        precision: Lightning's name of the precision.
    """
    weights = list(network.parameters())
    on_gpu = all(weight.is_cuda and weight.is_floating_point() for weight in weights)
    whole = not any(isinstance(weight, DTensor) for weight in weights)
    return on_gpu and whole and precision != "16-mixed"


def is_fused(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether an optimizer updates all weights in one kernel."""
    return any(group.get("fused") for group in optimizer.param_groups)


def _keep_kind(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Return a state dict with this optimizer's own ``fused`` and ``foreach``.

    The choice of kernel depends on the device, not on the checkpoint.
    """
    own = optimizer.param_groups
    groups = [
        {**theirs, **{key: ours[key] for key in ("fused", "foreach") if key in ours}}
        for theirs, ours in zip(state["param_groups"], own, strict=False)
    ]
    return {**state, "param_groups": groups}


def build_schedule(
    config: OptimConfig, optimizer: torch.optim.Optimizer, *, steps_per_epoch: int, num_steps: int
) -> Any:  # noqa: ANN401 - timm's Scheduler has no types
    """Return a timm schedule that is a function of the optimizer step alone.

    Args:
        config: Config of the schedule.
        optimizer: Optimizer whose learning rate is scheduled.
        steps_per_epoch: Optimizer steps in an epoch.
        num_steps: Optimizer steps in the run.
    """
    from timm.scheduler.scheduler_factory import create_scheduler_v2

    warmup = min(round(config.warmup_epochs * steps_per_epoch), max(num_steps - 1, 0))
    # All lengths are in steps, so that "epochs" may be fractions and a run may be cut short.
    schedule, _ = create_scheduler_v2(
        optimizer,
        sched="step" if config.schedule == "constant" else config.schedule,
        num_epochs=max(num_steps - warmup, 1) if config.schedule == "cosine" else num_steps,
        decay_epochs=max(round(config.decay_epochs * steps_per_epoch), 1)
        if config.schedule == "step"
        else num_steps + 1,
        decay_rate=config.decay_rate,
        min_lr=config.min_lr,
        warmup_lr=config.lr / 100,
        warmup_epochs=warmup,
        warmup_prefix=config.schedule == "cosine",
        step_on_epochs=False,
        updates_per_epoch=1,
    )
    return schedule
