"""TensorBoard's events of a run whose folder is a bucket, which is only ever given whole files.

The event file grows on the local disk; what it holds goes up with each checkpoint and after each
validation. Every start of a run has a file of its own, so the earlier ones stay.
"""

import atexit
import shutil
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytorch_lightning as pl

from rsdl.storage.local import LocalStore
from rsdl.storage.store import Store
from rsdl.train.trainer import EventLogger
from rsdl.train.upload_queue import UploadQueue

EVENTS = "events.out.*"


def event_folder(store: Store) -> str:
    """Return a local folder for TensorBoard's events: the run's own where it is local."""
    if isinstance(store, LocalStore):
        return store.url
    folder = mkdtemp(prefix="rsdl-events-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def upload_events(trainer: pl.Trainer, uploads: UploadQueue) -> None:
    """Write out the events so far, and send them to the run's folder if they are not there."""
    for logger in trainer.loggers:
        if not isinstance(logger, EventLogger):
            continue
        logger.save()
        if isinstance(uploads.store, LocalStore):
            continue
        for path in Path(logger.log_dir).glob(EVENTS):
            # As far as it goes now: nothing is logged meanwhile, so no event is cut in two.
            copy = partial(copy_beginning, path, path.stat().st_size, uploads.store)
            uploads.submit(path.name, copy)


def copy_beginning(path: Path, length: int, store: Store) -> None:
    """Put the first ``length`` bytes of a file into a store, under its own name."""
    with store.create(path.name) as part, path.open("rb") as stream, part.open("wb") as copy:
        copy.write(stream.read(length))


class TensorBoardUploader(pl.Callback):
    """Sends the events along with checkpoints and validations.

    Stands behind the recorder in the list of callbacks: what it logs is sent.

    Args:
        uploads: Brings files to the run's folder.
    """

    def __init__(self, uploads: UploadQueue) -> None:
        self._uploads = uploads

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Send them ahead of the checkpoint, which leaves them behind."""
        upload_events(trainer, self._uploads)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Send them with what the recorder has just logged."""
        upload_events(trainer, self._uploads)
