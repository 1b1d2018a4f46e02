"""The runs in a folder or a bucket, and their records."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from rsdl.cluster.job_actions import RunFacts
from rsdl.core.errors import ConfigError, DataError
from rsdl.records.run_record import RECORD, RunRecord
from rsdl.storage.connect import connect, join
from rsdl.train.run_folder import RunFolder

RUNS_VARIABLE = "RSDL_RUNS"
READERS = 8


@dataclass(frozen=True, slots=True)
class Runs:
    """The records of a study's runs.

    Attributes:
        records: Records by the name of the run's folder.
        broken: Problems of unreadable records by the name of the run's folder.
    """

    records: Mapping[str, RunRecord] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Names of all runs' folders, sorted."""
        return sorted({*self.records, *self.broken})


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


def read_runs(url: str) -> Runs:
    """Return the records of all runs directly below a folder; there may be none yet."""
    folders = {name: folder for name, folder in list_runs(url).items() if name and "/" not in name}
    with ThreadPoolExecutor(READERS) as pool:
        pairs = list(zip(folders, pool.map(_try_read, folders.values()), strict=True))
    return Runs(
        {name: found for name, found in pairs if isinstance(found, RunRecord)},
        {name: found for name, found in pairs if isinstance(found, str)},
    )


def read_facts(url: str | None, configs: Mapping[str, str]) -> dict[str, RunFacts]:
    """Return status and reason from the records, by the names of Jobs.

    Args:
        url: URL of the runs; ``None`` gives no facts.
        configs: Configs, after which the folders of runs are named, by the names of Jobs.

    Raises:
        DataError: If one of these records is unreadable, so that the run's status is unknown.
    """
    if url is None:
        return {}
    runs = read_runs(url)
    for config in configs.values():
        if config in runs.broken:
            raise DataError(join(url, config, RECORD), runs.broken[config], "restore or remove it")
    return {
        name: RunFacts(runs.records[config].status, runs.records[config].reason)
        for name, config in configs.items()
        if config in runs.records
    }


def is_completed(folder: RunFolder) -> bool:
    """Return whether a run is completed now."""
    record = folder.read_record()
    return record is not None and record.status == "completed"


def _try_read(folder: RunFolder) -> RunRecord | str | None:
    try:
        return folder.read_record()
    except DataError as error:
        return error.problem
