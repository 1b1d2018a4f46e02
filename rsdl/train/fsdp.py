"""FSDP2 (Zhao et al. 2023): every device keeps a shard of weights, gradients and optimizer state.

Checkpoints are the same as on one device: full tensors under the network's own names, so that a run
can resume on any number of devices, sharded or not. The cost: rank 0 gathers the full state on its
host for each checkpoint.

``torch.distributed.checkpoint.state_dict`` names the optimizer's state by weight, where Lightning's
checkpoints of one device, and those of older runs, number it. It would replace only the half of the
model, beside the code that the optimizer needs.
"""

from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from rsdl.core.errors import ConfigError

# Smaller modules are sharded with their parent: each collective has a fixed cost.
UNIT_PARAMETERS = 1 << 20


class ShardedStrategy(DDPStrategy):
    """Lightning's DDP strategy with FSDP2 instead of the DDP wrapper."""

    def setup(self, trainer: "pl.Trainer") -> None:
        """Shard the network before fitting; do not shard it a second time for evaluation."""
        model = self.lightning_module
        assert model is not None and self.accelerator is not None
        if trainer.state.fn == TrainerFn.FITTING or not is_sharded(model):
            return super().setup(trainer)
        self.accelerator.setup(trainer)
        self.model_to_device()
        self.setup_precision_plugin()

    def teardown(self) -> None:
        """Leave the shards on their devices, since a later evaluation uses them."""
        assert self.cluster_environment is not None and self.accelerator is not None
        self.cluster_environment.teardown()
        self.precision_plugin.teardown()
        self.accelerator.teardown()

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return full tensors on rank 0; a collective that every rank must call."""
        assert self.lightning_module is not None
        whole: dict[str, Any] = _gather(
            self.lightning_module.state_dict(), keep=self.is_global_zero
        )
        return whole

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return full tensors on rank 0; a collective that every rank must call."""
        state: dict[str, Any] = _gather(
            super().optimizer_state(optimizer), keep=self.is_global_zero
        )
        return state

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Load each rank's shards from full tensors."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            shards = {
                number: {name: shard_like(value, weights[number]) for name, value in values.items()}
                for number, values in state["state"].items()
            }
            optimizer.load_state_dict({**state, "state": shards})

    def _setup_model(self, model: nn.Module) -> nn.Module:  # type: ignore[override]
        for parameter in model.parameters():
            parameter.data = parameter.data.contiguous()  # shards cannot be channels_last
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, src=0)
        mesh = init_device_mesh(self.root_device.type, (dist.get_world_size(),))
        network: nn.Module = model.model  # type: ignore[assignment]
        policy = choose_policy(network, self.precision_plugin.precision)
        shard_network(network, mesh, policy)
        averaged: Any = model.averaged
        if averaged is not None:
            shard_network(averaged.module, mesh, policy)
        return model

    def _register_ddp_hooks(self) -> None:
        """Register no hooks: there is no DDP wrapper."""


def check_sharding(network: nn.Module, *, sync_batchnorm: bool) -> None:
    """Check that the batch norm statistics of a sharded network are the same on all ranks.

    Raises:
        ConfigError: If the network has batch norm that is not synchronized.
    """
    norms = nn.modules.batchnorm._BatchNorm
    if not sync_batchnorm and any(isinstance(module, norms) for module in network.modules()):
        raise ConfigError(
            "trainer.strategy",
            "fsdp leaves each device its own statistics of batch norm, which this model has",
            "set trainer.sync_batchnorm=true (on GPUs), or trainer.strategy=ddp",
        )


def choose_policy(network: nn.Module, precision: str | int) -> MixedPrecisionPolicy:
    """Return in which precision weights are gathered and gradients reduced.

    Shards, and so the optimizer's weights, stay fp32, and gradients are added up in fp32. In mixed
    precision the weights are gathered in bf16: half the bytes and the memory. Not those of batch
    norm, whose kernels take fp32 weights beside fp32 statistics, and so of no network that has it.

    Args:
        network: The network.
        precision: Lightning's name of the precision.
    """
    norms = nn.modules.batchnorm._BatchNorm
    if precision != "bf16-mixed" or any(isinstance(module, norms) for module in network.modules()):
        return MixedPrecisionPolicy()
    return MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)


def shard_network(network: nn.Module, mesh: DeviceMesh, policy: MixedPrecisionPolicy) -> None:
    """Shard a network in place: large elements of layer lists one by one, then the rest."""
    units = [
        element
        for container in network.modules()
        if isinstance(container, (nn.Sequential, nn.ModuleList))
        for element in container
        if not isinstance(element, (nn.Sequential, nn.ModuleList))
        and sum(parameter.numel() for parameter in element.parameters()) >= UNIT_PARAMETERS
    ]
    for unit in reversed(list(dict.fromkeys(units))):  # inner ones first
        fully_shard(unit, mesh=mesh, mp_policy=policy)
    fully_shard(network, mesh=mesh, mp_policy=policy)


def is_sharded(module: nn.Module) -> bool:
    """Return whether a module's weights are sharded."""
    return any(isinstance(parameter, DTensor) for parameter in module.parameters())


def shard_like(value: object, weight: Tensor) -> object:
    """Return this rank's shard of a full tensor, sharded like a weight of the same shape."""
    if not isinstance(weight, DTensor) or not isinstance(value, Tensor):
        return value
    if value.shape != weight.shape or isinstance(value, DTensor):
        return value
    value = value.to(weight.device)
    # Every rank has read the full tensor, so nothing needs to be sent.
    return distribute_tensor(value, weight.device_mesh, weight.placements, src_data_rank=None)


def shard_state(module: nn.Module, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state dict of full tensors, sharded like the module's own."""
    own = module.state_dict()
    return {name: shard_like(value, own[name]) if name in own else value
            for name, value in state.items()}  # fmt: skip


def _gather(tree: Any, *, keep: bool) -> Any:  # noqa: ANN401 - trees of state dicts
    """Return a tree with full tensors on the host; with empty ones unless ``keep``."""

    def whole(value: object) -> object:
        if isinstance(value, DTensor):
            value = value.full_tensor()
        if isinstance(value, Tensor):
            return value.detach().cpu() if keep else torch.empty(0)
        return value

    return _map(tree, whole)


def _map(tree: Any, change: Callable[[object], object]) -> Any:  # noqa: ANN401
    if isinstance(tree, Mapping):
        return {key: _map(value, change) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(_map(value, change) for value in tree)
    return change(tree)
