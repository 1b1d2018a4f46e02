"""FSDP2 (Zhao et al. 2023): every device keeps a shard of weights, gradients and optimizer state.

Every rank writes its own shards of ``last.ckpt``, and reads its own of the optimizer's state,
whatever the number of ranks that wrote them; see ``shards.py``. Names are those of one device, so
that a run can resume on any number of devices, sharded or not. ``best.ckpt`` is gathered on rank 0
into one file: it has the weights only, which every host holds whole at the start of a run anyway,
and one file is what is copied and read elsewhere.

``torch.distributed.checkpoint.state_dict`` names the optimizer's state by weight, where Lightning's
checkpoints of one device, and those of older runs, number it. It would replace only the half of the
model, beside the code that the optimizer needs.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from rsdl.core.errors import ConfigError
from rsdl.train.checkpoint import OPTIMIZERS, SHARDS
from rsdl.train.checkpoint_io import StoreCheckpointIO
from rsdl.train.shards import gather_whole, join_path, shard_like

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

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        filepath: str | Path,
        storage_options: Any | None = None,  # noqa: ANN401 - Lightning's signature
    ) -> None:
        """Write a checkpoint as shards, or whole; a collective that every rank must call.

        Args:
            checkpoint: Content, with this rank's shards.
            filepath: Its name in the run's folder.
            storage_options: Group of all ranks with a CPU backend, to write shards; ``None`` to
                gather full tensors on rank 0 and write one file.
        """
        if storage_options is not None:
            self._checkpoints.save_shards(checkpoint, filepath, storage_options)
        else:
            whole = gather_whole(checkpoint, keep=self.is_global_zero)
            super().save_checkpoint(whole, filepath)

    def load_checkpoint(
        self, checkpoint_path: str | Path, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint; each rank reads its shards of the optimizer's state later."""
        return self._checkpoints.open_shards(checkpoint_path)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Load each rank's shards, from full tensors or from shards of any number of ranks."""
        saved = checkpoint[OPTIMIZERS]
        for place, (optimizer, state) in enumerate(zip(self.optimizers, saved, strict=True)):
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            shards: dict[int, dict[str, Any]] = {}
            unread: dict[str, Tensor] = {}
            for number, values in state["state"].items():
                own: dict[str, Any] = {
                    name: shard_like(value, weights[number]) for name, value in values.items()
                }
                for name, value in values.items():
                    if isinstance(value, Tensor) and value.is_meta:
                        unread[join_path(OPTIMIZERS, place, "state", number, name)] = own[name]
                shards[number] = own
            if unread:
                checkpoint[SHARDS].read(unread)
            optimizer.load_state_dict({**state, "state": shards})

    @property
    def _checkpoints(self) -> StoreCheckpointIO:
        assert isinstance(self.checkpoint_io, StoreCheckpointIO)
        return self.checkpoint_io

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
