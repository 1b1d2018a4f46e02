"""The files of a run: ``run.json``, ``metrics.csv`` and the others in its folder.

Each file is rewritten atomically during the run, so a reader always sees a complete file.
"""

import os
from dataclasses import dataclass, field
from functools import partial

import yaml
from pydantic import ValidationError

from rsdl.config.load import REMOVED, validate_written
from rsdl.config.run import LENGTH, RunConfig, show_changeable
from rsdl.core.errors import ConfigError, ConfigErrors, DataError
from rsdl.core.versions import newer_error, unknown_names
from rsdl.distributed.rendezvous import RUN_TOKEN
from rsdl.records.model_spec import MODEL
from rsdl.records.run_record import CONFIG, HISTORY, LAST, RECORD, REPORT, RunRecord, now
from rsdl.storage.connect import join
from rsdl.storage.store import Store
from rsdl.train.metrics_csv import Row, format_rows, parse_rows
from rsdl.train.owner import Owner, own
from rsdl.train.upload_queue import UploadQueue


class RunFolder:
    """The files of one run; files that change during the run go through its upload queue.

    Args:
        store: The run's folder.
        background: Whether to write in a thread; ``None``: yes, unless ``store`` is local.
    """

    def __init__(self, store: Store, *, background: bool | None = None) -> None:
        self.store = store
        self.uploads = UploadQueue(store, background=background)
        self._owner: Owner | None = None

    def own(self) -> None:
        """Acquire the folder for this process; later writes fail once another process has it.

        Raises:
            OwnedError: If another process trains in it.
        """
        self._owner = own(self.store, run=os.environ.get(RUN_TOKEN))
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
        ours = (RECORD, HISTORY, CONFIG, MODEL, REPORT, "checkpoints/", "report", "events.out.")
        for entry in list(self.store.list()):
            if entry.name.startswith(ours):
                self.store.delete(entry.name)


@dataclass(frozen=True, slots=True)
class ExistingRun:
    """The existing state of a run, as found by rank 0.

    Attributes:
        record: The run record; ``None`` for a new run.
        history: Rows of ``metrics.csv``.
        has_state: Whether there is a checkpoint to resume from.
        is_extended: Whether the run is completed, and now to be made longer.
    """

    record: RunRecord | None = None
    history: list[Row] = field(default_factory=list)
    has_state: bool = False
    is_extended: bool = False


def find_existing_run(folder: RunFolder) -> ExistingRun:
    """Return the existing state of a run."""
    record = folder.read_record()
    if record is None:
        return ExistingRun()
    return ExistingRun(record, folder.read_history(), folder.store.size(LAST) is not None)


def as_begun(config: RunConfig, folder: RunFolder) -> RunConfig:
    """Return a config whose ``data.normalize: auto`` is what an existing run was begun with.

    Runs of releases without the field were normalised by their data set; they go on so.

    Raises:
        DataError: If this release cannot read the run's config.
    """
    if config.data.normalize != "auto" or folder.store.size(CONFIG) is None:
        return config
    data = config.data.model_copy(update={"normalize": read_begun(folder).data.normalize})
    return config.model_copy(update={"data": data})


def check_same_run(config: RunConfig, record: RunRecord, folder: RunFolder) -> bool:
    """Check that an existing run has the same config, or is completed and is made longer.

    Equal digests mean an equal config. If they differ, the configs are compared key by key, since a
    release with more keys than the one that began the run has another digest for the same config.

    Returns:
        Whether the config extends the run.

    Raises:
        ConfigError: If they differ otherwise; the message names the changed keys and those that
            may change.
    """
    if record.config_digest == config.digest:
        return False
    config = as_begun(config, folder)
    if folder.store.size(CONFIG) is None:
        changes, extends = [f"which one is not known, as {CONFIG} is gone"], False
    else:
        # Keys that the run's release lacked get their defaults, which are its behaviour.
        old, new = read_begun(folder).identity(), config.identity()
        keys = [key for key in dict.fromkeys([*new, *old]) if old.get(key) != new.get(key)]
        changes = [f"{key} {old.get(key)} -> {new.get(key)}" for key in keys]
        extends = record.status == "completed" and all(
            key in LENGTH and _is_longer(new[key], old[key]) for key in keys
        )
    if not changes or extends:
        return bool(changes)
    raise ConfigError(
        folder.store.url,
        f"holds a run with another config: {', '.join(changes)}",
        "give it another name=..., or begin anew with --restart. What may change: "
        f"{show_changeable()}; and {' and '.join(LENGTH)} may grow once it is completed",
    )


def _is_longer(new: int | None, old: int | None) -> bool:
    """Return whether a length is greater than another; ``None`` is no limit."""
    return old is not None and (new is None or new > old)


def read_begun(folder: RunFolder) -> RunConfig:
    """Return the config that an existing run was begun with.

    Raises:
        DataError: If this release cannot read its config.
    """
    where = join(folder.store.url, CONFIG)
    try:
        return validate_written(yaml.safe_load(folder.store.read(CONFIG)))
    except ConfigErrors as error:
        unknown = [one.where for one in error.errors if one.problem == "unknown field"]
        if unknown:
            raise unknown_names(where, "field", unknown) from error
        if gone := [one for one in error.errors if one.where in REMOVED]:
            problem, remedy = f"{gone[0].where} {gone[0].problem}", gone[0].remedy
            raise DataError(where, problem, f"{remedy}; or begin anew with --restart") from error
        problem = f"is no config of a run: {error.errors[0]}"
        raise DataError(where, problem, "restore it, or begin anew with --restart") from error
    except yaml.YAMLError as error:
        raise DataError(where, "is not YAML", "restore it, or begin anew with --restart") from error
