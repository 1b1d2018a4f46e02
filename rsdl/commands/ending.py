"""The end of a run that did not complete: the status in its record and the command's error."""

import logging
from contextlib import suppress

from rsdl.commands.build import Session
from rsdl.core.errors import UNAVAILABLE, PreemptedError, RsdlError
from rsdl.storage.local import explain_error
from rsdl.train.signals import StopRequest
from rsdl.train.tensorboard import upload_events
from rsdl.train.upload_queue import UploadQueue

logger = logging.getLogger(__name__)


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
