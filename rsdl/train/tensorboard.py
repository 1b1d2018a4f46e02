"""Uploads of TensorBoard events for a run whose folder is a bucket, which takes only whole files.

The event file grows on the local disk. Its current content is uploaded with each checkpoint and
after each validation. Every start of a run has its own file, so earlier files stay.
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
    """Return a local folder for event files: the run's folder if local, else a temporary one."""
    if isinstance(store, LocalStore):
        return store.url
    folder = mkdtemp(prefix="rsdl-events-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def upload_events(trainer: pl.Trainer, uploads: UploadQueue) -> None:
    """Flush the events so far, and upload them if the run's folder is not local."""
    for logger in trainer.loggers:
        if not isinstance(logger, EventLogger):
            continue
        logger.save()
        if isinstance(uploads.store, LocalStore):
            continue
        for path in Path(logger.log_dir).glob(EVENTS):
            # Upload the current length only. Nothing is being logged now, so no event is cut.
            copy = partial(copy_beginning, path, path.stat().st_size, uploads.store)
            uploads.submit(path.name, copy)


def copy_beginning(path: Path, length: int, store: Store) -> None:
    """Write the first ``length`` bytes of a file to a store, under the file's name."""
    with store.create(path.name) as part, path.open("rb") as stream, part.open("wb") as copy:
        copy.write(stream.read(length))


class TensorBoardUploader(pl.Callback):
    """Uploads the events with each checkpoint and validation.

    It must follow the recorder in the list of callbacks, to upload what the recorder logs.

    Args:
        uploads: Queue that writes to the run's folder.
    """

    def __init__(self, uploads: UploadQueue) -> None:
        self._uploads = uploads

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Upload the events before the checkpoint: a resumed run does not log them again."""
        upload_events(trainer, self._uploads)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Upload the events, including what the recorder has just logged."""
        upload_events(trainer, self._uploads)
