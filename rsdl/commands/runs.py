"""The runs in a folder or a bucket, and their records."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from rsdl.cluster.job_actions import RunFacts
from rsdl.config.run import RunConfig
from rsdl.core.errors import ConfigError, DataError, RsdlError
from rsdl.records.run_record import RECORD, RunRecord
from rsdl.storage.connect import connect, join
from rsdl.train.run_folder import RunFolder, check_same_run

RUNS_VARIABLE = "RSDL_RUNS"
READERS = 8
EXTENDED = "extended"  # of a completed run that its config makes longer


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a run stands, by its record and by the config that is to train it.

    Attributes:
        status: Status in the record, or ``extended``.
        epochs_planned: Epochs to complete.
        reason: Explanation for the user; may be empty.
    """

    status: str
    epochs_planned: int
    reason: str = ""


def find_standing(folder: RunFolder, record: RunRecord, config: RunConfig | None) -> Standing:
    """Return where a run stands; every sweep decides by it what is left to train.

    Args:
        folder: The run.
        record: Its record.
        config: The config that is to train it; ``None`` if unknown.
    """
    if record.status != "completed" or config is None:
        return Standing(record.status, record.epochs_planned, record.reason)
    try:
        extended = check_same_run(config, record, folder)
    except RsdlError as error:
        return Standing("completed", record.epochs_planned, error.problem)
    if not extended:
        return Standing("completed", record.epochs_planned)
    epochs = config.trainer.max_epochs
    reason = f"completed {record.epochs_completed} epochs, its config says {epochs}"
    return Standing(EXTENDED, epochs, reason)


@dataclass(frozen=True, slots=True)
class Runs:
    """The records of a study's runs.

    Attributes:
        records: Records by the name of the run's folder.
        broken: Problems of unreadable records by the name of the run's folder.
        standings: Where runs stand by their configs, by the name of the run's folder.
    """

    records: Mapping[str, RunRecord] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    standings: Mapping[str, Standing] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Names of all runs' folders, sorted."""
        return sorted({*self.records, *self.broken})

    def standing(self, name: str) -> Standing:
        """Return where a run with a record stands, by its record alone if its config is unknown."""
        record = self.records[name]
        alone = Standing(record.status, record.epochs_planned, record.reason)
        return self.standings.get(name, alone)


def runs_url(given: str | None) -> str | None:
    """Return the URL of the runs: as given, else ``$RSDL_RUNS``, else ``None``."""
    return given or os.environ.get(RUNS_VARIABLE) or None


def demand_runs(given: str | None) -> str:
    """Return the URL of the runs: as given, else ``$RSDL_RUNS``.

    Raises:
        ConfigError: If neither is set.
    """
    url = runs_url(given)
    if url is None:
        raise ConfigError(
            "RUNS_URL", "is missing", f"name a folder or s3://, or set {RUNS_VARIABLE}"
        )
    return url


def list_runs(url: str) -> dict[str, RunFolder]:
    """Return the runs below a folder by their paths; if it is a run itself, it alone as ``""``."""
    store = connect(url, cache=None)
    if store.size(RECORD) is not None:
        return {"": RunFolder(store)}
    names = [entry.name for entry in store.list() if entry.name.endswith(f"/{RECORD}")]
    paths = [name.removesuffix(f"/{RECORD}") for name in names]
    return {path: RunFolder(connect(join(url, path), cache=None)) for path in paths}


def find_runs(url: str) -> list[RunFolder]:
    """Return the run at a folder, or those below it.

    Raises:
        DataError: If there are none.
    """
    found = list(list_runs(url).values())
    if not found:
        raise DataError(url, "holds no run", "name a folder that rsdl train wrote")
    return found


def read_runs(url: str, trained: Mapping[str, RunConfig] | None = None) -> Runs:
    """Return the records of all runs directly below a folder; there may be none yet.

    Args:
        url: Folder of the runs.
        trained: The configs that are to train them, by name, where they are known.
    """
    folders = {name: folder for name, folder in list_runs(url).items() if name and "/" not in name}
    known = trained or {}
    with ThreadPoolExecutor(READERS) as pool:
        found = pool.map(_try_read, folders.values(), map(known.get, folders))
        pairs = list(zip(folders, found, strict=True))
    read = {name: each for name, each in pairs if isinstance(each, tuple)}
    return Runs(
        {name: record for name, (record, _) in read.items()},
        {name: problem for name, problem in pairs if isinstance(problem, str)},
        {name: standing for name, (_, standing) in read.items()},
    )


def read_facts(
    url: str | None, configs: Mapping[str, str], trained: Mapping[str, RunConfig]
) -> dict[str, RunFacts]:
    """Return status and reason of the runs, by the names of Jobs.

    Args:
        url: URL of the runs; ``None`` gives no facts.
        configs: Configs, after which the folders of runs are named, by the names of Jobs.
        trained: The loaded configs by these names, where they are known.

    Raises:
        DataError: If one of these records is unreadable, so that the run's status is unknown.
    """
    if url is None:
        return {}
    runs = read_runs(url, trained)
    for config in configs.values():
        if config in runs.broken:
            raise DataError(join(url, config, RECORD), runs.broken[config], "restore or remove it")
    return {
        name: RunFacts(runs.standing(config).status, runs.standing(config).reason)
        for name, config in configs.items()
        if config in runs.records
    }


def is_completed(folder: RunFolder, config: RunConfig | None) -> bool:
    """Return whether a run is completed now, and its config does not make it longer."""
    record = folder.read_record()
    return record is not None and find_standing(folder, record, config).status == "completed"


def _try_read(
    folder: RunFolder, config: RunConfig | None
) -> tuple[RunRecord, Standing] | str | None:
    try:
        record = folder.read_record()
        return None if record is None else (record, find_standing(folder, record, config))
    except DataError as error:
        return error.problem
