"""``rsdl train``: from a config to a trained network and its report, resuming what was begun."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

import pytorch_lightning as pl
import torch
from rich.console import Console
from torch import nn

from rsdl.commands.evaluate import evaluate_checkpoint
from rsdl.commands.report import write_report
from rsdl.config.load import load_config, to_yaml
from rsdl.config.run import RunConfig, flatten
from rsdl.core.errors import ConfigError, PreemptedError, RsdlError
from rsdl.core.world import is_main
from rsdl.data.augment import Augment
from rsdl.data.dataset import DataSet
from rsdl.data.module import DataModule
from rsdl.models.catalog import build_model, find_timm_name
from rsdl.storage.connect import connect, join
from rsdl.storage.local import LocalStore
from rsdl.tasks.classification import ClassificationTask
from rsdl.train.checkpoint import BEST, LAST, Checkpointer, Position, read_checkpoint, state_of
from rsdl.train.module import TrainingModule
from rsdl.train.preempt import StopRequest
from rsdl.train.progress import ProgressReport
from rsdl.train.record import (
    CONFIG,
    RunFolder,
    RunRecord,
    describe_environment,
    git_revision,
)
from rsdl.train.recorder import Recorder
from rsdl.train.trainer import build_loggers, build_trainer


@dataclass(frozen=True, slots=True)
class Session:
    """Everything that one process of a run works with."""

    config: RunConfig
    folder: RunFolder
    data: DataModule
    module: TrainingModule
    trainer: pl.Trainer
    recorder: Recorder
    console: Console


def train(config_path: str, overrides: Sequence[str] = (), *, restart: bool = False) -> int:
    """Train what a config describes; resume it if it was begun.

    Args:
        config_path: YAML file.
        overrides: ``key=value`` pairs.
        restart: Whether to throw away what was begun.

    Returns:
        0 when the run is completed.

    Raises:
        InputError: If config, data or the run's folder are wrong (exit code 2).
        PreemptedError: If the run was asked to stop and has saved (exit code 75).
    """
    stop = StopRequest()
    stop.install()
    console = Console(file=sys.stdout, soft_wrap=True, quiet=not is_main())
    config = load_config(config_path, overrides)
    folder = RunFolder(connect(join(config.output, config.name)))
    if restart and is_main():
        folder.clear()
    known = folder.read_record()
    if known is not None:
        check_same_run(config, known, folder)
        if known.status == "completed":
            console.print(f"{folder.store.url} is completed; --restart begins anew")
            return 0
    session = open_session(config, folder, known, stop, console)
    record = session.recorder.record
    try:
        run_session(session, resumed=known is not None)
        record.status, record.reason = "completed", ""
        session.recorder.write(session.trainer)
        finish(session)
    except PreemptedError as error:
        record.status, record.reason = "preempted", error.problem
        record.preemptions += 1
        session.recorder.write(session.trainer)
        raise
    except BaseException as error:
        reason = str(error) if isinstance(error, RsdlError) else f"{type(error).__name__}: {error}"
        record.status, record.reason = "failed", reason
        session.recorder.write(session.trainer)
        raise
    return 0


def check_same_run(config: RunConfig, record: RunRecord, folder: RunFolder) -> None:
    """Refuse to go on with a run under another config.

    Raises:
        ConfigError: Naming what changed.
    """
    if record.config_digest == config.digest:
        return
    changes = ["the code or the defaults"]
    if folder.store.size(CONFIG) is not None:
        import yaml

        old, new = flatten(yaml.safe_load(folder.store.read(CONFIG))), config.identity()
        changes = [
            f"{key} {old.get(key)} -> {value}"
            for key, value in new.items()
            if old.get(key) != value
        ] or changes
    raise ConfigError(
        folder.store.url,
        f"holds a run with another config: {', '.join(changes)}",
        "give it another name=..., or begin anew with --restart",
    )


def open_session(
    config: RunConfig,
    folder: RunFolder,
    known: RunRecord | None,
    stop: StopRequest,
    console: Console,
) -> Session:
    """Build everything that a run needs, checking the cheap things first."""
    check_mixing(config)
    dataset = DataSet(config.data)
    if known is not None and known.manifest_digest != dataset.manifest.digest:
        raise ConfigError(
            "data.url",
            f'is not the data set that this run was begun with ("{dataset.manifest.dataset}")',
            "point it at the same data, or begin anew with --restart",
        )
    if is_main():
        folder.store.write(CONFIG, to_yaml(config).encode())
    pl.seed_everything(config.seed, verbose=False)
    data = DataModule(dataset, seed=config.seed, accumulate=config.trainer.accumulate)
    network = build_network(config, dataset)
    module = build_module(config, dataset, network)
    module.steps_per_epoch = data.plan(0).num_batches()
    total = config.trainer.max_epochs * module.steps_per_epoch
    module.num_steps = min(config.trainer.max_steps or total, total)
    record = known or new_record(config, dataset, network)
    record.resumes += known is not None
    record.status, record.reason = "running", ""
    recorder = Recorder(
        folder,
        record,
        folder.read_history() if known else [],
        log_every_steps=config.trainer.log_every_steps,
        patience=config.trainer.patience,
    )
    trainer = build_trainer(
        config.trainer,
        folder.store,
        clip_grad=config.optim.clip_grad,
        callbacks=[
            recorder,
            ProgressReport(
                recorder,
                steps_per_epoch=module.steps_per_epoch,
                num_steps=module.num_steps,
                console=console,
            ),
            Checkpointer(config.checkpoint, folder.store, stop),
        ],
        loggers=build_loggers(config.logging, event_folder(folder), config.name)
        if is_main()
        else [],
    )
    data.check(trainer.world_size)
    record.device_count = trainer.world_size
    record.device_name = device_name(trainer)
    return Session(config, folder, data, module, trainer, recorder, console)


def run_session(session: Session, *, resumed: bool) -> None:
    """Fit, from the last checkpoint if there is one, and validate what is not validated yet."""
    module, trainer, recorder = session.module, session.trainer, session.recorder
    store, data = session.folder.store, session.data
    checkpoint = LAST if resumed and store.size(LAST) is not None else None
    announce(session, checkpoint)
    recorder.write(trainer)
    if checkpoint is not None:
        content = read_checkpoint(store.local(LAST), join(store.url, LAST))
        position = Position(**state_of(content, join(store.url, LAST))["position"])
        module.load_state_dict(content["state_dict"])
        del content
        data.resume(position.epoch, position.consumed)
        recorder.take(position)
        if position.validate:
            trainer.validate(module, datamodule=data, verbose=False)
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint)
    if recorder.record.metrics.get("final", {}).get("epoch") != recorder.epoch:
        trainer.validate(module, datamodule=data, verbose=False)


def finish(session: Session) -> None:
    """Evaluate the best weights on the test split, if there is one, and write the report."""
    config, folder, record = session.config, session.folder, session.recorder.record
    manifest = session.data.data.manifest
    split = config.data.test_split
    if split not in manifest.splits or not manifest.splits[split].samples:
        split = config.data.val_split
    evaluation = evaluate_checkpoint(
        config, session.module, session.data, session.trainer, split=split, checkpoint=BEST,
        store=folder.store,
    )  # fmt: skip
    if not is_main():
        return
    record.metrics = dict(record.metrics) | {split: dict(evaluation.metrics)}
    session.recorder.write(session.trainer)
    path = write_report(folder, evaluation)
    best = record.metrics["best"]
    session.console.print(
        f"best validation OA {best['oa'] or 0:.2%} (epoch {int(best['epoch'] or 0) + 1}), "
        f"{split} OA {evaluation.metrics['oa'] or 0:.2%} on {evaluation.num_samples} images\n"
        f"report: {path}",
        highlight=False,
    )


def build_network(config: RunConfig, dataset: DataSet) -> nn.Module:
    """Return the network that a config describes for a data set."""
    manifest = dataset.manifest
    network = build_model(
        config.model,
        num_classes=len(manifest.classes),
        in_chans=len(manifest.bands),
        image_size=config.data.image_size,
    )
    if config.trainer.channels_last:
        network = network.to(memory_format=torch.channels_last)
    if config.trainer.compile:
        network.compile()
    return network


def build_module(config: RunConfig, dataset: DataSet, network: nn.Module) -> TrainingModule:
    """Return the module that fits or evaluates a network."""
    manifest = dataset.manifest
    task = ClassificationTask(config.task, len(manifest.classes))
    augment = Augment(config.augment, manifest.mean, manifest.std, manifest.dtype)
    return TrainingModule(network, task, augment, config.optim, config.seed)


def check_mixing(config: RunConfig) -> None:
    """Refuse mixing in batches that have no pairs."""
    size = config.data.batch_size // config.trainer.accumulate
    if config.augment.mixes and size % 2:
        raise ConfigError(
            "data.batch_size",
            f"{size} images in a micro-batch cannot be mixed in pairs",
            "use an even number, or augment.mixup=0 augment.cutmix=0",
        )


def new_record(config: RunConfig, dataset: DataSet, network: nn.Module) -> RunRecord:
    """Return the record of a run that begins."""
    manifest = dataset.manifest
    return RunRecord(
        name=config.name,
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


def announce(session: Session, checkpoint: str | None) -> None:
    """Say what is about to be trained on what."""
    record, manifest = session.recorder.record, session.data.data.manifest
    counts = ", ".join(f"{split.samples:,} {name}" for name, split in manifest.splits.items())
    session.console.print(
        f"{record.name}: {record.timm_model} ({record.parameters / 1e6:.1f} M parameters) on "
        f"{manifest.dataset} ({counts}; {len(manifest.classes)} classes, {len(manifest.bands)} "
        f"bands) at {record.image_size} px, batch {record.global_batch}, "
        f"{record.device_count} x {record.device_name}\n"
        f"{'resuming' if checkpoint else 'writing to'} {session.folder.store.url}",
        highlight=False,
    )


def device_name(trainer: pl.Trainer) -> str:
    """Return what the user would call the device."""
    if trainer.strategy.root_device.type == "cuda":
        return torch.cuda.get_device_name(trainer.strategy.root_device)
    for line in _cpu_facts():
        if line.startswith("model name"):
            return f"CPU ({line.partition(':')[2].strip()}, {torch.get_num_threads()} threads)"
    return f"CPU ({torch.get_num_threads()} threads)"


def event_folder(folder: RunFolder) -> str:
    """Return a local folder for TensorBoard's events: the run's own where it is local."""
    if isinstance(folder.store, LocalStore):
        return folder.store.url
    return mkdtemp(prefix="rsdl-events-")


def _cpu_facts() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []
