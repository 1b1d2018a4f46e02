"""Build the objects of one process of a run, and check its config before training."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import yaml
from rich.console import Console
from torch import nn

from rsdl.commands.network import build_module, build_network
from rsdl.commands.ranks import Ranks
from rsdl.config.load import validate
from rsdl.config.run import RunConfig
from rsdl.core.errors import ConfigError, ConfigErrors, DataError
from rsdl.core.versions import unknown_names
from rsdl.data.datamodule import DataModule
from rsdl.data.dataset import DataSet
from rsdl.distributed.rank import is_main
from rsdl.models.catalog import find_timm_name
from rsdl.models.probe import find_starved_norm
from rsdl.records.run_record import CONFIG, RunRecord, describe_environment, git_revision
from rsdl.storage.connect import join
from rsdl.train.checkpoint import LAST
from rsdl.train.checkpoint_callback import CheckpointCallback
from rsdl.train.device_stats import open_meters
from rsdl.train.device_stats_callback import DeviceStatsCallback
from rsdl.train.fsdp import check_sharding
from rsdl.train.heartbeat_callback import HeartbeatCallback
from rsdl.train.metrics_csv import Row
from rsdl.train.module import TrainingModule
from rsdl.train.optim import check_optimizer
from rsdl.train.progress_bar import ProgressBar
from rsdl.train.recorder import Recorder
from rsdl.train.run_folder import RunFolder
from rsdl.train.signals import StopRequest
from rsdl.train.tensorboard import TensorBoardUploader, event_folder
from rsdl.train.trainer import build_loggers, build_trainer


@dataclass(frozen=True, slots=True)
class Session:
    """The objects of one process of a run."""

    config: RunConfig
    folder: RunFolder
    data: DataModule
    module: TrainingModule
    trainer: pl.Trainer
    recorder: Recorder
    console: Console
    stop: StopRequest


def check_same_run(config: RunConfig, record: RunRecord, folder: RunFolder) -> None:
    """Check that an existing run has the same config.

    Equal digests mean an equal config. If they differ, the configs are compared key by key, since a
    release with more keys than the one that began the run has another digest for the same config.

    Raises:
        ConfigError: If they differ; the message names the changed keys.
    """
    if record.config_digest == config.digest:
        return
    if folder.store.size(CONFIG) is None:
        changes = [f"which one is not known, as {CONFIG} is gone"]
    else:
        # Keys that the run's release lacked get their defaults, which are its behaviour.
        old, new = read_identity(folder), config.identity()
        keys = dict.fromkeys([*new, *old])
        changes = [
            f"{key} {old.get(key)} -> {new.get(key)}"
            for key in keys
            if old.get(key) != new.get(key)
        ]
    if not changes:
        return
    raise ConfigError(
        folder.store.url,
        f"holds a run with another config: {', '.join(changes)}",
        "give it another name=..., or begin anew with --restart",
    )


def read_identity(folder: RunFolder) -> dict[str, Any]:
    """Return the result-determining config values of an existing run, by key path.

    Raises:
        DataError: If this release cannot read its config.
    """
    where = join(folder.store.url, CONFIG)
    try:
        return validate(yaml.safe_load(folder.store.read(CONFIG))).identity()
    except ConfigErrors as error:
        unknown = [one.where for one in error.errors if one.problem == "unknown field"]
        if unknown:
            raise unknown_names(where, "field", unknown) from error
        problem = f"is no config of a run: {error.errors[0]}"
        raise DataError(where, problem, "restore it, or begin anew with --restart") from error
    except yaml.YAMLError as error:
        raise DataError(where, "is not YAML", "restore it, or begin anew with --restart") from error


@dataclass(frozen=True, slots=True)
class ExistingRun:
    """The existing state of a run, as found by rank 0.

    Attributes:
        record: The run record; ``None`` for a new run.
        history: Rows of ``metrics.csv``.
        has_state: Whether there is a checkpoint to resume from.
    """

    record: RunRecord | None = None
    history: list[Row] = field(default_factory=list)
    has_state: bool = False


def find_existing_run(folder: RunFolder) -> ExistingRun:
    """Return the existing state of a run."""
    record = folder.read_record()
    if record is None:
        return ExistingRun()
    return ExistingRun(record, folder.read_history(), folder.store.size(LAST) is not None)


def open_session(
    config: RunConfig, folder: RunFolder, begun: ExistingRun, ranks: Ranks, console: Console
) -> Session:
    """Build the objects of a run, with the cheap checks first."""
    known = begun.record
    check_optimizer(config.optim)
    dataset = DataSet(config.data, config.storage)
    dataset.manifest.split(config.data.val_split, where="data.val_split")
    if known is not None and known.manifest_digest != dataset.manifest.digest:
        raise ConfigError(
            "data.url",
            f'is not the data set that this run was begun with ("{dataset.manifest.dataset}")',
            "point it at the same data, or begin anew with --restart",
        )
    pl.seed_everything(config.seed, verbose=False)
    data = DataModule(dataset, seed=config.seed, accumulate=config.trainer.accumulate)
    # A resumed run takes its weights from the checkpoint, so pretrained ones are not fetched again.
    network = build_network(config, dataset, load_weights=not begun.has_state)
    if config.trainer.strategy == "fsdp":
        check_sharding(network, sync_batchnorm=config.trainer.sync_batchnorm)
    module = build_module(config, dataset, network)
    module.steps_per_epoch = data.plan(0).num_batches()
    total = config.trainer.max_epochs * module.steps_per_epoch
    module.num_steps = min(config.trainer.max_steps or total, total)
    record = known or new_record(config, dataset, network)
    record.resumes += known is not None
    record.config_digest = config.digest
    record.status, record.reason = "running", ""
    recorder = Recorder(
        folder,
        record,
        begun.history,
        log_every_steps=config.trainer.log_every_steps,
        patience=config.trainer.patience,
    )
    local = ranks.place.local_world_size
    usage = DeviceStatsCallback(partial(open_meters, num_devices=local), record, processes=local)
    trainer = build_trainer(
        config.trainer,
        folder.uploads,
        clip_grad=config.optim.clip_grad,
        callbacks=[
            HeartbeatCallback(ranks.heartbeat),
            usage,
            recorder,
            ProgressBar(
                recorder,
                steps_per_epoch=module.steps_per_epoch,
                num_steps=module.num_steps,
                console=console,
            ),
            TensorBoardUploader(folder.uploads),
            CheckpointCallback(config.checkpoint, folder.uploads, ranks.stop, ranks.agreement),
        ],
        loggers=build_loggers(config.logging, event_folder(folder.store), config.name)
        if is_main()
        else [],
    )
    data.check(trainer.world_size)
    check_mixing(config, trainer.world_size)
    check_norms(config, network, len(dataset.manifest.bands), trainer.world_size)
    record.device_count = trainer.world_size
    record.device_name = device_name(trainer)
    return Session(config, folder, data, module, trainer, recorder, console, ranks.stop)


def check_mixing(config: RunConfig, world_size: int) -> None:
    """Check that a device's batch is even if images are mixed in pairs."""
    size = config.data.batch_size // (config.trainer.accumulate * world_size)
    if config.augment.mixes and size % 2:
        raise ConfigError(
            "data.batch_size",
            f"{config.data.batch_size} gives each device {size} images at a time, which cannot be "
            "mixed in pairs",
            "choose one that gives an even number, or set augment.mixup and augment.cutmix to 0",
        )


def check_norms(config: RunConfig, network: nn.Module, bands: int, world_size: int) -> None:
    """Check that no batch normalisation gets one value per channel, from a single image."""
    size = config.data.batch_size // (config.trainer.accumulate * world_size)
    # Synchronised batch normalisation uses the values of all devices.
    if size > 1 or (config.trainer.sync_batchnorm and world_size > 1):
        return
    name = find_starved_norm(network, in_chans=bands, image_size=config.data.image_size)
    if name is not None:
        least = 2 * config.trainer.accumulate * world_size
        raise ConfigError(
            "data.batch_size",
            f"{config.data.batch_size} gives each device 1 image at a time, and with "
            f'data.image_size={config.data.image_size} the batch normalisation "{name}" of '
            f"{config.model.name} sees one value per channel, which has no spread",
            f"use data.batch_size={least} or more, a larger data.image_size or a network without "
            "batch normalisation",
        )


def new_record(config: RunConfig, dataset: DataSet, network: nn.Module) -> RunRecord:
    """Return the record of a new run."""
    manifest = dataset.manifest
    return RunRecord(
        name=config.name,
        task=config.task.name,
        git_revision=git_revision(),
        config_digest=config.digest,
        manifest_digest=manifest.digest,
        seed=config.seed,
        architecture=config.model.name,
        timm_model=find_timm_name(config.model.name),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        dataset=manifest.dataset,
        num_classes=len(manifest.classes),
        bands=len(manifest.bands),
        image_size=config.data.image_size,
        global_batch=config.data.batch_size,
        epochs_planned=config.trainer.max_epochs,
        environment=describe_environment(),
    )


def device_name(trainer: pl.Trainer) -> str:
    """Return the name of the device for users."""
    if trainer.strategy.root_device.type == "cuda":
        return torch.cuda.get_device_name(trainer.strategy.root_device)
    for line in _cpu_facts():
        if line.startswith("model name"):
            return f"CPU ({line.partition(':')[2].strip()}, {torch.get_num_threads()} threads)"
    return f"CPU ({torch.get_num_threads()} threads)"


def _cpu_facts() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []
