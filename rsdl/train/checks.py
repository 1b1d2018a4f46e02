"""Checks that a config fits its data, network and existing run, before the first step."""

from torch import nn

from rsdl.config.run import RunConfig
from rsdl.core.errors import ConfigError
from rsdl.core.image_size import show_size
from rsdl.data.dataset import DataSet
from rsdl.data.plan import Share
from rsdl.models.probe import find_starved_norm
from rsdl.records.run_record import LAST
from rsdl.train.metrics_csv import has_stalled
from rsdl.train.module import TrainingModule
from rsdl.train.run_folder import ExistingRun


def check_splits(config: RunConfig, dataset: DataSet) -> None:
    """Check that there is a split to validate on, or, without validation, one for the test."""
    if config.data.val_split is not None:
        dataset.check_split(config.data.val_split, "data.val_split")
        return
    dataset.manifest.split(config.data.test_split, where="data.test_split")
    if config.trainer.patience is not None:
        raise ConfigError(
            "trainer.patience", "needs a validation", "leave it out, or name a data.val_split"
        )


def check_extension(config: RunConfig, begun: ExistingRun, module: TrainingModule) -> None:
    """Check that a completed run that is made longer has a step to make, and its last state."""
    record, length = begun.record, config.trainer
    assert record is not None
    if not begun.has_state:
        raise ConfigError(
            "trainer.max_epochs",
            f"cannot extend a run without {LAST}",
            "restore it, or begin anew with --restart",
        )
    if has_stalled(begun.history, module.task.facts.primary_metric, length.patience):
        raise ConfigError(
            "trainer.max_epochs",
            f"cannot extend a run that trainer.patience={length.patience} has ended after "
            f"{record.epochs_completed} epochs",
            "give another trainer.patience and begin anew with --restart",
        )
    if module.num_steps <= record.optimizer_steps:
        raise ConfigError(
            "trainer.max_steps",
            f"ends the run at step {module.num_steps}, which it has reached",
            "raise both trainer.max_steps and trainer.max_epochs",
        )


def check_mixing(config: RunConfig, share: Share) -> None:
    """Check that the task can mix images, and that a device's batch is even to do so in pairs."""
    if config.augment.mixes and not config.task.facts.mixes:
        raise ConfigError(
            "augment",
            f"mixes images, and {config.task.name} cannot mix its targets",
            "set augment.mixup and augment.cutmix to 0",
        )
    size = share.rows_of(config.data.batch_size)
    if config.augment.mixes and size % 2:
        raise ConfigError(
            "data.batch_size",
            f"{config.data.batch_size} gives each device {size} images at a time, which cannot be "
            "mixed in pairs",
            "choose one that gives an even number, or set augment.mixup and augment.cutmix to 0",
        )


def check_norms(config: RunConfig, network: nn.Module, bands: int, share: Share) -> None:
    """Check that no batch normalisation gets one value per channel, from a single image."""
    size = share.rows_of(config.data.batch_size)
    # Synchronised batch normalisation uses the values of all devices.
    if size > 1 or (config.trainer.sync_batchnorm and share.world_size > 1):
        return
    name = find_starved_norm(network, in_chans=bands, image_size=config.data.image_size)
    if name is not None:
        least = 2 * share.parts
        raise ConfigError(
            "data.batch_size",
            f"{config.data.batch_size} gives each device 1 image at a time, and with "
            f"data.image_size={show_size(config.data.image_size)} the batch normalisation "
            f'"{name}" of {config.model.name} sees one value per channel, which has no spread',
            f"use data.batch_size={least} or more, a larger data.image_size or a network without "
            "batch normalisation",
        )
