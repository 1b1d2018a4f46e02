"""How a run ends that is not completed: what its record says, and what the command ends with."""

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
    """Return what an error really was: Lightning turns a second Ctrl-C into an exit."""
    if isinstance(error, SystemExit) and stop:
        return KeyboardInterrupt()
    return explain_error(error) or error


def close_run(session: Session, error: BaseException) -> BaseException:
    """Bring up what is on its way, and write how a run ended that was not completed.

    Returns:
        The error that the command ends with: that of the last checkpoint, if it is not in the run's
        folder, rather than the promise that the run can go on from there.
    """
    try:
        error = _drain(session.folder.uploads, error)
    except KeyboardInterrupt as again:  # the second: nothing is waited for any more
        error = again
    write_ending(session, error)
    return error


def write_ending(session: Session, error: BaseException) -> None:
    """Write how a run ended that was not completed; what is still on its way is given up."""
    record, uploads = session.recorder.record, session.folder.uploads
    code = error.exit_code if isinstance(error, RsdlError) else 1
    if isinstance(error, RsdlError) and code in (UNAVAILABLE, PreemptedError.exit_code):
        preempted = code == PreemptedError.exit_code
        record.status = "preempted"  # It waits to be started again, as one that has saved.
        record.reason = error.problem if preempted else str(error)
        record.preemptions += preempted
    elif isinstance(error, KeyboardInterrupt):
        record.status, record.reason = "failed", "interrupted"
    else:
        reason = str(error) if isinstance(error, RsdlError) else f"{type(error).__name__}: {error}"
        record.status, record.reason = "failed", reason
    uploads.abandon()  # It is empty, or broken, or nobody is going to wait for it.
    with suppress(RsdlError):  # A full disk must not hide what went wrong.
        session.recorder.write(session.trainer)
        upload_events(session.trainer, uploads)


def _drain(uploads: UploadQueue, error: BaseException) -> BaseException:
    """Return what a run ends with, once all that it has sent off is there or lost."""
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
