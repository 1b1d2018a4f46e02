"""The files of a run: ``run.json``, ``metrics.csv`` and the others in its folder.

Each file is rewritten atomically during the run, so a reader always sees a complete file.
"""

from functools import partial

from pydantic import ValidationError

from rsdl.core.errors import DataError
from rsdl.core.versions import newer_error
from rsdl.records.run_record import CONFIG, HISTORY, RECORD, REPORT, RunRecord, now
from rsdl.storage.connect import join
from rsdl.storage.store import Store
from rsdl.train.metrics_csv import Row, format_rows, parse_rows
from rsdl.train.owner import Owner, own
from rsdl.train.upload_queue import UploadQueue


class RunFolder:
    """The files of one run; files that change during the run go through its upload queue.

    Args:
        store: The run's folder.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.uploads = UploadQueue(store)
        self._owner: Owner | None = None

    def own(self) -> None:
        """Acquire the folder for this process; later writes fail once another process has it.

        Raises:
            OwnedError: If another process trains in it.
        """
        self._owner = own(self.store)
        self.uploads.check_owner = self._owner.check

    def release(self) -> None:
        """Release the folder if this process owns it."""
        if self._owner is not None:
            self._owner.release()

    def read_record(self) -> RunRecord | None:
        """Return the record, or ``None`` if there is no run yet."""
        if self.store.size(RECORD) is None:
            return None
        try:
            return RunRecord.model_validate_json(self.store.read(RECORD))
        except ValidationError as error:
            where = join(self.store.url, RECORD)
            if (newer := newer_error(error, where, reads=1)) is not None:
                raise newer from error
            raise DataError(
                where,
                f"is not a run record of format 1: {error.errors()[0]['msg']}",
                "restore it, or start again with --restart",
            ) from error

    def write_record(self, record: RunRecord) -> None:
        """Submit the current record for an atomic write."""
        record.updated_at = now()
        page = (record.model_dump_json(indent=2) + "\n").encode()
        self.uploads.submit(RECORD, partial(self.store.write, RECORD, page))

    def read_history(self) -> list[Row]:
        """Return the rows of ``metrics.csv``."""
        if self.store.size(HISTORY) is None:
            return []
        try:
            return parse_rows(self.store.read(HISTORY).decode())
        except (ValueError, TypeError) as error:
            raise DataError(
                join(self.store.url, HISTORY),
                f"is not what rsdl wrote: {error}",
                "restore it, or start again with --restart",
            ) from error

    def write_history(self, rows: list[Row]) -> None:
        """Submit ``metrics.csv`` for an atomic write."""
        page = format_rows(rows).encode()
        self.uploads.submit(HISTORY, partial(self.store.write, HISTORY, page))

    def clear(self) -> None:
        """Delete the files of a run and nothing else."""
        ours = (RECORD, HISTORY, CONFIG, REPORT, "checkpoints/", "report", "events.out.")
        for entry in list(self.store.list()):
            if entry.name.startswith(ours):
                self.store.delete(entry.name)
