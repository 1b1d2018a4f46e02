"""The records of a study's runs, read from a folder or a bucket."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from rsdl.cluster.job_actions import RunFacts
from rsdl.core.errors import ConfigError, DataError
from rsdl.records.run_record import RECORD, RunRecord
from rsdl.storage.connect import connect, join
from rsdl.train.run_folder import RunFolder

VARIABLE = "RSDL_RUNS"
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


def runs_url(given: str | None) -> str | None:
    """Return the URL of the runs: as given, else ``$RSDL_RUNS``, else ``None``."""
    return given or os.environ.get(VARIABLE) or None


def demand_runs(given: str | None) -> str:
    """Return the URL of the runs: as given, else ``$RSDL_RUNS``.

    Raises:
        ConfigError: If neither is set.
    """
    url = runs_url(given)
    if url is None:
        raise ConfigError("RUNS_URL", "is missing", f"name a folder or s3://, or set {VARIABLE}")
    return url


def read_runs(url: str) -> Runs:
    """Return the records of all runs directly below a folder; there may be none yet."""
    names = [entry.name for entry in connect(url, cache=None).list()]
    folders = [name.removesuffix(f"/{RECORD}") for name in names if name.endswith(f"/{RECORD}")]
    folders = [folder for folder in folders if "/" not in folder]
    with ThreadPoolExecutor(READERS) as pool:
        found = list(pool.map(lambda folder: _try_read(url, folder), folders))
    pairs = list(zip(folders, found, strict=True))
    return Runs(
        {folder: one for folder, one in pairs if isinstance(one, RunRecord)},
        {folder: one for folder, one in pairs if isinstance(one, str)},
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


def is_completed(url: str | None, config: str) -> bool:
    """Return whether a run is completed now."""
    if url is None:
        return False
    record = RunFolder(connect(join(url, config), cache=None)).read_record()
    return record is not None and record.status == "completed"


def names_of(runs: Runs) -> Sequence[str]:
    """Return the names of all runs' folders, sorted."""
    return sorted({*runs.records, *runs.broken})


def _try_read(url: str, folder: str) -> RunRecord | str | None:
    try:
        return RunFolder(connect(join(url, folder), cache=None)).read_record()
    except DataError as error:
        return error.problem
