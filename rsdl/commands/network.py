"""Build the network and the LightningModule from a config and an opened data set."""

import torch
from torch import nn

from rsdl.commands.compiler import require_compiler
from rsdl.config.run import RunConfig
from rsdl.config.trainer import Compile
from rsdl.core.errors import ConfigError
from rsdl.data.augment import Augment
from rsdl.data.dataset import DataSet
from rsdl.models.catalog import build_model
from rsdl.tasks.classification import ClassificationTask
from rsdl.train.module import TrainingModule

REPLAYED = ("reduce-overhead", "max-autotune")  # modes that replay CUDA graphs


def build_network(config: RunConfig, dataset: DataSet, *, load_weights: bool = True) -> nn.Module:
    """Return the network that a config describes for a data set.

    Args:
        config: Config of the run.
        dataset: Data set, which gives the numbers of classes and bands.
        load_weights: Whether to load ``model.weights``; ``False`` if a checkpoint will be loaded.
    """
    manifest = dataset.manifest
    network = build_model(
        config.model if load_weights else config.model.model_copy(update={"weights": "none"}),
        num_classes=len(manifest.classes),
        in_chans=len(manifest.bands),
        image_size=config.data.image_size,
        storage=config.storage,
    )
    if config.trainer.checkpoint_activations:
        checkpoint_activations(network, config.model.name)
    if config.trainer.channels_last:
        network = network.to(memory_format=torch.channels_last)
    compile_for(network, config.trainer.compile)
    return network


def checkpoint_activations(network: nn.Module, name: str) -> None:
    """Have a network compute its activations anew in the backward pass, as timm does it.

    Args:
        network: The network.
        name: Of the model, for messages.

    Raises:
        ConfigError: If it has batch norm, whose running statistics each step would update twice,
            or if timm knows no way for it.
    """
    field, remedy = "trainer.checkpoint_activations", "leave it out, and raise trainer.accumulate"
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()):
        problem = f"{name} has batch norm, whose statistics each step would update twice"
        raise ConfigError(field, problem, remedy)
    try:
        network.set_grad_checkpointing(True)  # type: ignore[operator]
    except (AttributeError, AssertionError) as error:
        raise ConfigError(field, f"timm has no way to do it for {name}", remedy) from error


def compile_for(part: nn.Module, how: Compile, *, graphs: bool = True) -> None:
    """Set a module up, in place, to be compiled by torch.compile at its first call.

    Args:
        part: Module to compile; its batches have one size in training and one in evaluation.
        how: Value of ``trainer.compile``.
        graphs: Whether to use CUDA graphs if ``how`` is a mode with them.

    Raises:
        ConfigError: If there is no C++ compiler, or Python's headers are missing.
    """
    if how == "off":
        return
    require_compiler()
    mode = "default" if how == "on" or not graphs else how
    part.compile(mode=mode, dynamic=False)


def build_module(config: RunConfig, dataset: DataSet, network: nn.Module) -> TrainingModule:
    """Return the LightningModule that trains or evaluates a network."""
    manifest = dataset.manifest
    task = ClassificationTask(config.task, len(manifest.classes))
    augment = Augment(config.augment, manifest.mean, manifest.std, manifest.dtype)
    # No CUDA graphs: the fused augmentation has few kernels, and graphs would copy every batch.
    compile_for(augment, config.trainer.compile, graphs=False)
    module = TrainingModule(network, task, augment, config.optim, config.seed)
    module.replays = config.trainer.compile in REPLAYED
    return module
