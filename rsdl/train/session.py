"""One process of a run: fit and validate, or end early with its status in the record."""

import logging
from contextlib import suppress
from dataclasses import dataclass, replace

import pytorch_lightning as pl
from rich.console import Console

from rsdl.config.load import to_yaml
from rsdl.config.run import RunConfig
from rsdl.core.errors import UNAVAILABLE, PreemptedError, RsdlError
from rsdl.data.datamodule import DataModule
from rsdl.distributed.rank import is_main
from rsdl.records.model_spec import MODEL
from rsdl.records.run_record import BEST, CONFIG, LAST
from rsdl.storage.connect import join
from rsdl.storage.local import explain_error
from rsdl.train.checkpoint import (
    Position,
    load_weights,
    read_checkpoint,
    state_of,
)
from rsdl.train.checkpoint_io import StoreCheckpointIO
from rsdl.train.lightning_private import set_progress
from rsdl.train.module import TrainingModule
from rsdl.train.recorder import Recorder
from rsdl.train.run_folder import ExistingRun, RunFolder
from rsdl.train.saved_run import describe_model
from rsdl.train.signals import StopRequest
from rsdl.train.tensorboard import upload_events
from rsdl.train.upload_queue import UploadQueue, drain_all_ranks

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunParts:
    """What evaluates a checkpoint of a run on one process."""

    config: RunConfig
    folder: RunFolder
    data: DataModule
    module: TrainingModule
    trainer: pl.Trainer


@dataclass(frozen=True, slots=True)
class Session(RunParts):
    """What trains a run on one process."""

    recorder: Recorder
    console: Console
    stop: StopRequest


def fit(session: Session, begun: ExistingRun) -> None:
    """Fit, from the last checkpoint if there is one, and validate an epoch not validated yet."""
    module, trainer, recorder = session.module, session.trainer, session.recorder
    store, data = session.folder.store, session.data
    checkpoint = LAST if begun.has_state else None
    position = Position()
    if checkpoint is not None:
        content = read_checkpoint(store, LAST)
        position = Position(**state_of(content, join(store.url, LAST))["position"])
        load_weights(module, content, join(store.url, LAST))
        del content
        data.resume(position.epoch, position.consumed)
    if begun.record is not None:
        recorder.take(position, module.task.facts.primary_metric)
    if begun.is_extended and is_main():
        # The record first: with the new config beside it, the old one would read as completed.
        recorder.write(trainer)
        session.folder.uploads.drain()
    if is_main():
        store.write(CONFIG, to_yaml(session.config).encode())
        known = session.folder if begun.record is not None else None
        spec = describe_model(session.config, session.data.data.manifest, known)
        store.write(MODEL, spec.to_json())
    recorder.write(trainer)
    session.stop.check()
    validates = session.config.data.val_split is not None
    if position.validate and validates:
        validate(session)
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint)
    if not validates:
        finish_uploads(session)
        if is_main():
            take_last_weights(session.folder)
    elif not recorder.is_validated:
        validate(session)


def validate(session: Session) -> None:
    """Validate outside ``fit``, with the progress set to the epoch that was trained last."""
    position = replace(session.recorder.position, epoch=session.recorder.epoch)
    set_progress(session.trainer, position)
    session.trainer.validate(session.module, datamodule=session.data, verbose=False)


def take_last_weights(folder: RunFolder) -> None:
    """Write the weights of ``last.ckpt`` to ``best.ckpt``: no validation selects others."""
    content = read_checkpoint(folder.store, LAST)
    StoreCheckpointIO(folder.uploads).save_checkpoint(content, BEST)


def finish_uploads(session: Session) -> None:
    """Wait until all uploads of the run are in its folder, where every rank can read them."""
    drain_all_ranks(session.folder.uploads, session.trainer.strategy.root_device)


def explain_ending(error: BaseException, stop: StopRequest) -> BaseException:
    """Return the cause of an error: Lightning turns a second Ctrl-C into a ``SystemExit``."""
    if isinstance(error, SystemExit) and stop:
        return KeyboardInterrupt()
    return explain_error(error) or error


def close_run(session: Session, error: BaseException) -> BaseException:
    """Finish the uploads of a run that did not complete, and write its status.

    Returns:
        The error that the command ends with. If the upload of the last checkpoint failed, it is
        that error instead of ``PreemptedError``, which promises that the run can resume.
    """
    if not isinstance(error, PreemptedError):
        session.folder.uploads.is_alone = True
    try:
        error = _drain(session.folder.uploads, error)
    except KeyboardInterrupt as again:  # the second Ctrl-C: stop waiting for uploads
        error = again
    write_ending(session, error)
    return error


def write_ending(session: Session, error: BaseException) -> None:
    """Write the status of a run that did not complete; drop unfinished uploads."""
    record, uploads = session.recorder.record, session.folder.uploads
    code = error.exit_code if isinstance(error, RsdlError) else 1
    if isinstance(error, RsdlError) and code in (UNAVAILABLE, PreemptedError.exit_code):
        preempted = code == PreemptedError.exit_code
        record.status = "preempted"  # it can be started again, like a run that has saved
        record.reason = error.problem if preempted else str(error)
        record.preemptions += preempted
    elif isinstance(error, KeyboardInterrupt):
        record.status, record.reason = "failed", "interrupted"
    else:
        reason = str(error) if isinstance(error, RsdlError) else f"{type(error).__name__}: {error}"
        record.status, record.reason = "failed", reason
    uploads.abandon()  # the queue is empty or failed, or the process no longer waits for it
    with suppress(RsdlError):  # a full disk must not hide the original error
        session.recorder.write(session.trainer)
        upload_events(session.trainer, uploads)


def _drain(uploads: UploadQueue, error: BaseException) -> BaseException:
    """Return the error of a run, after waiting for its uploads to finish or fail."""
    if isinstance(error, KeyboardInterrupt):
        return error
    try:
        uploads.drain()
    except Exception as lost:
        if isinstance(error, PreemptedError):
            return lost
        if lost is not error:
            logger.warning("%s", lost)
    return error
