"""RunConfig -> task, network, module, data, trainer; what does not fit is refused before a step."""

from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch
from rich.console import Console
from torch import nn

from rsdl.config.run import RunConfig
from rsdl.config.trainer import TrainerConfig
from rsdl.core.errors import ConfigError
from rsdl.data.augment import Augment
from rsdl.data.datamodule import DataModule
from rsdl.data.dataset import DataSet
from rsdl.distributed.rank import is_main
from rsdl.models.catalog import find_timm_name
from rsdl.records.run_record import RunRecord, describe_environment, git_revision
from rsdl.tasks.build import build_task
from rsdl.train.checkpoint_callback import CheckpointCallback
from rsdl.train.checks import check_extension, check_mixing, check_norms, check_splits
from rsdl.train.compile import REPLAYED, checkpoint_activations, compile_for
from rsdl.train.device_stats import open_meters
from rsdl.train.device_stats_callback import DeviceStatsCallback
from rsdl.train.fsdp import check_sharding
from rsdl.train.heartbeat_callback import HeartbeatCallback
from rsdl.train.module import TrainingModule
from rsdl.train.optim import check_optimizer
from rsdl.train.progress_bar import ProgressBar
from rsdl.train.ranks import Ranks
from rsdl.train.recorder import Recorder
from rsdl.train.run_folder import ExistingRun, RunFolder
from rsdl.train.saved_run import find_normalization
from rsdl.train.session import RunParts, Session
from rsdl.train.tensorboard import TensorBoardUploader, event_folder
from rsdl.train.trainer import build_loggers, build_trainer, share_batch
from rsdl.train.world_history import WorldHistory, find_reached


def open_session(
    config: RunConfig, folder: RunFolder, begun: ExistingRun, ranks: Ranks, console: Console
) -> Session:
    """Build the objects of a run, with the cheap checks first."""
    known = begun.record
    check_optimizer(config.optim)
    dataset = DataSet(config.data, config.storage, seed=config.seed)
    check_splits(config, dataset)
    if known is not None and known.manifest_digest != dataset.manifest.digest:
        raise ConfigError(
            "data.url",
            f'is not the data set that this run was begun with ("{dataset.manifest.dataset}")',
            "point it at the same data, or begin anew with --restart",
        )
    pl.seed_everything(config.seed, verbose=False)
    share = share_batch(config, ranks.rank_info.world_size)
    data = DataModule(
        dataset, seed=config.seed, accumulate=share.accumulate, multiple=share.multiple
    )
    # A resumed run takes its weights from the checkpoint, so pretrained ones are not fetched again.
    module = build_module(
        config, dataset, folder if known else None, load_weights=not begun.has_state
    )
    network = module.model
    if config.trainer.strategy == "fsdp":
        check_sharding(network, sync_batchnorm=config.trainer.sync_batchnorm)
    module.steps_per_epoch = data.plan(0).num_batches()
    total = config.trainer.max_epochs * module.steps_per_epoch
    module.num_steps = min(config.trainer.max_steps or total, total)
    if begun.is_extended:
        check_extension(config, begun, module)
    # Only rank 0 writes the record.
    reached = find_reached(known, ranks) if known is not None and is_main() else None
    record = known or new_record(config, dataset, network)
    record.resumes += known is not None
    record.config_digest = config.digest
    if begun.is_extended:
        record.extended_at = [*record.extended_at, record.optimizer_steps]
        record.epochs_planned = config.trainer.max_epochs
    record.status, record.reason = "running", ""
    recorder = Recorder(
        folder,
        record,
        begun.history,
        log_every_steps=config.trainer.log_every_steps,
        patience=config.trainer.patience,
    )
    local = ranks.rank_info.local_world_size
    usage = DeviceStatsCallback(partial(open_meters, num_devices=local), record, processes=local)
    trainer = build_trainer(
        config.trainer,
        folder.uploads,
        accumulate=share.accumulate,
        clip_grad=config.optim.clip_grad,
        validates=config.data.val_split is not None,
        callbacks=[
            HeartbeatCallback(ranks.heartbeat),
            usage,
            recorder,
            WorldHistory(recorder, reached, module.steps_per_epoch, data.plan(0).num_planned),
            ProgressBar(
                recorder,
                steps_per_epoch=module.steps_per_epoch,
                num_steps=module.num_steps,
                console=console,
            ),
            TensorBoardUploader(folder.uploads),
            CheckpointCallback(config.checkpoint, folder.uploads, ranks.stop, ranks.flag_reduce),
        ],
        loggers=build_loggers(config.logging, event_folder(folder.store), config.name)
        if is_main()
        else [],
    )
    data.check(trainer.world_size)
    check_mixing(config, share)
    check_norms(config, network, len(dataset.manifest.bands), share)
    record.device_count = trainer.world_size
    record.device_name = device_name(trainer)
    return Session(config, folder, data, module, trainer, recorder, console, ranks.stop)


def open_evaluation(
    config: RunConfig, folder: RunFolder, dataset: DataSet, *, devices: int, tta: bool
) -> RunParts:
    """Build what evaluates a run's checkpoints on one device.

    Args:
        config: Config of the run.
        folder: The run's folder.
        dataset: Data set to evaluate on.
        devices: Devices that the run was trained on.
        tta: Whether predictions are merged over flips and rotations.
    """
    # No second network for the average: evaluation uses one set of weights only.
    optim = config.optim.model_copy(update={"ema_decay": None})
    plain = config.model_copy(update={"optim": optim})
    module = build_module(plain, dataset, folder, load_weights=False)
    module.tta = tta
    data = DataModule(dataset, seed=config.seed, accumulate=config.trainer.accumulate * devices)
    trainer = build_trainer(
        TrainerConfig(accelerator=config.trainer.accelerator, devices=1,
                      precision=config.trainer.precision),
        folder.uploads, clip_grad=None, callbacks=[], loggers=[],
    )  # fmt: skip
    return RunParts(config, folder, data, module, trainer)


def build_module(
    config: RunConfig,
    dataset: DataSet,
    folder: RunFolder | None = None,
    *,
    load_weights: bool = True,
) -> TrainingModule:
    """Return the LightningModule that trains or evaluates the network of a config.

    Args:
        config: Config of the run.
        dataset: Data set, which gives the classes and bands.
        folder: Folder of the run, which keeps the normalisation that it was begun with.
        load_weights: Whether to load ``model.weights``; ``False`` if a checkpoint will be loaded.
    """
    manifest, how = dataset.manifest, config.trainer.compile
    task = build_task(config.task, manifest, url=config.data.url)
    network = task.build_network(
        config.model if load_weights else config.model.model_copy(update={"weights": "none"}),
        in_chans=len(manifest.bands),
        image_size=config.data.image_size,
        storage=config.storage,
        bands=manifest.bands,
    )
    if config.trainer.checkpoint_activations:
        checkpoint_activations(network, config.model.name)
    if config.trainer.channels_last:
        network = network.to(memory_format=torch.channels_last)
    compile_for(network, how)
    chosen = find_normalization(config, manifest, folder)
    augment = Augment(config.augment, chosen.mean, chosen.std, manifest.dtype)
    # No CUDA graphs: the fused augmentation has few kernels, and graphs would copy every batch.
    compile_for(augment, how, graphs=False)
    module = TrainingModule(network, task, augment, config.optim, config.seed)
    module.replays, module.normalized_by = how in REPLAYED, chosen.source
    return module


def new_record(config: RunConfig, dataset: DataSet, network: nn.Module) -> RunRecord:
    """Return the record of a new run."""
    manifest = dataset.manifest
    return RunRecord(
        name=config.name,
        task=config.task.name,
        boxes=config.task.boxes if config.task.name == "detection" else None,
        git_revision=git_revision(),
        config_digest=config.digest,
        manifest_digest=manifest.digest,
        split_draw=manifest.split_draw,
        seed=config.seed,
        fold=config.data.fold,
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
