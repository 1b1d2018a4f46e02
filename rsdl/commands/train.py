"""``rsdl train``: from a config to a trained network and its report, resuming what was begun."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.utilities.exceptions import SIGTERMException
from rich.console import Console

from rsdl.commands.evaluate import evaluate_checkpoint
from rsdl.commands.report import write_report
from rsdl.commands.session import Session, check_same_run, keep_events, open_session
from rsdl.config.load import load_config, to_yaml
from rsdl.core.errors import PreemptedError, RsdlError
from rsdl.core.world import is_main
from rsdl.storage.connect import connect, join
from rsdl.train.checkpoint import (
    BEST,
    LAST,
    Position,
    load_weights,
    read_checkpoint,
    set_progress,
    state_of,
)
from rsdl.train.preempt import StopRequest
from rsdl.train.record import CONFIG, RunFolder


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
    # A rank that is not the main one may come before or after it has cleared.
    known = None if restart else folder.read_record()
    if known is not None:
        check_same_run(config, known, folder)
        if known.status == "completed":
            console.print(f"{folder.store.url} is completed; --restart begins anew")
            return 0
    session = open_session(config, folder, known, stop, console)
    if restart and is_main():
        folder.clear()
    try:
        run_session(session, resumed=known is not None)
        finish(session)
    except BaseException as error:
        ending = explain_ending(error, stop)
        close_record(session, ending)
        if isinstance(ending, PreemptedError) and is_child_of_lightning(session):
            return 0  # Anything else would make the parent's watchdog kill it while it saves.
        if ending is error:
            raise
        raise ending from error
    return 0


def explain_ending(error: BaseException, stop: StopRequest) -> BaseException:
    """Return what an error really was: Lightning turns being asked to stop into exits."""
    if isinstance(error, SIGTERMException):
        return PreemptedError("run", f"stopped by {stop.reason}", "run it again to go on")
    if isinstance(error, SystemExit) and stop:
        return KeyboardInterrupt()
    return error


def close_record(session: Session, error: BaseException) -> None:
    """Write how a run ended that was not completed."""
    record = session.recorder.record
    if isinstance(error, PreemptedError):
        record.status, record.reason = "preempted", error.problem
        record.preemptions += 1
    elif isinstance(error, KeyboardInterrupt):
        record.status, record.reason = "failed", "interrupted"
    else:
        reason = str(error) if isinstance(error, RsdlError) else f"{type(error).__name__}: {error}"
        record.status, record.reason = "failed", reason
    with suppress(RsdlError):  # A full disk must not hide what went wrong.
        session.recorder.write(session.trainer)
        keep_events(session)


def is_child_of_lightning(session: Session) -> bool:
    """Return whether Lightning, and neither a user nor torchrun, has started this process."""
    environment = getattr(session.trainer.strategy, "cluster_environment", None)
    return isinstance(environment, LightningEnvironment) and session.trainer.local_rank > 0


def run_session(session: Session, *, resumed: bool) -> None:
    """Fit, from the last checkpoint if there is one, and validate what is not validated yet."""
    module, trainer, recorder = session.module, session.trainer, session.recorder
    store, data = session.folder.store, session.data
    checkpoint = LAST if resumed and store.size(LAST) is not None else None
    announce(session, checkpoint)
    position = Position()
    if checkpoint is not None:
        content = read_checkpoint(store.local(LAST), join(store.url, LAST))
        position = Position(**state_of(content, join(store.url, LAST))["position"])
        load_weights(module, content, join(store.url, LAST))
        del content
        data.resume(position.epoch, position.consumed)
    if resumed:
        recorder.take(position, module.task.monitor)
    if is_main():
        store.write(CONFIG, to_yaml(session.config).encode())
    recorder.write(trainer)
    if position.validate:
        validate(session)
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint)
    if recorder.record.metrics.get("final", {}).get("epoch") != recorder.epoch:
        validate(session)


def validate(session: Session) -> None:
    """Validate outside of training, as after the epoch that was trained last."""
    position = replace(session.recorder.position, epoch=session.recorder.epoch)
    set_progress(session.trainer, position)
    session.trainer.validate(session.module, datamodule=session.data, verbose=False)


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
    record.status, record.reason = "completed", ""
    keep_events(session)
    # Killed in between, the run is not completed and the report is written again.
    path = write_report(folder, evaluation, record)
    session.recorder.write(session.trainer)
    best = record.metrics["best"]
    session.console.print(
        f"best validation OA {best['oa'] or 0:.2%} (epoch {int(best['epoch'] or 0) + 1}), "
        f"{split} OA {evaluation.metrics['oa'] or 0:.2%} on {evaluation.num_samples} images\n"
        f"report: {path}",
        highlight=False,
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
