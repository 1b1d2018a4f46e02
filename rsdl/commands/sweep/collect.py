"""``rsdl sweep collect``: download the models and records of a study to one folder and verify them.

A model is downloaded again if its run's record, which is written after it, has changed. Its size is
no sign of a change, since it is the same in every epoch. All other files are small and are always
downloaded again.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn

from rsdl.commands.bars import open_bar
from rsdl.commands.runs import Runs, read_runs
from rsdl.commands.sweep.index import Index, Kept, digest_record
from rsdl.commands.sweep.scope import JobSelector, find_scope
from rsdl.core.errors import ConfigError, DataError
from rsdl.records.model_spec import MODEL
from rsdl.records.run_record import BEST, CONFIG, HISTORY, RECORD
from rsdl.storage.connect import connect, join
from rsdl.storage.local import LocalStore
from rsdl.storage.store import Store

OPTIONAL = (MODEL, "report.", "report-")  # older runs have no model.json
# In the order of download: the record is last, so that the files it refers to are there.
NEEDED = (BEST, CONFIG, HISTORY, RECORD)
BLOCK_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Item:
    """One file of a run.

    Attributes:
        run: The run's folder.
        name: The file's name in it.
        size: Its size in bytes.
    """

    run: str
    name: str
    size: int

    @property
    def path(self) -> str:
        """Name of the file relative to the folder of the study."""
        return f"{self.run}/{self.name}"


def collect(
    url: str,
    out: str,
    *,
    partial: bool = False,
    dry_run: bool = False,
    manifests: str | None = None,
) -> int:
    """Download models and records of all runs; keep models that are there and unchanged.

    Args:
        url: Folder or URL of the runs.
        out: Local folder to download to.
        partial: Whether to also collect runs that are not completed, as they are.
        dry_run: Whether to download nothing and print what would be downloaded.
        manifests: Manifests whose Jobs name the required runs; ``None`` requires no others.

    Returns:
        0; 1 if a run is incomplete and ``partial`` is not set.

    Raises:
        InputError: If a folder cannot be used, or a file differs from what was written.
    """
    if "://" in out:
        raise ConfigError("--out", f"is {out}, which is no local folder", "name one")
    source, target = connect(url, cache=None), LocalStore(Path(out).expanduser())
    runs = read_runs(url)
    items, problems = choose(source, runs, _expected(manifests), partial=partial)
    index = Index.read(target, source.url)
    wanted = [item for item in items if not _is_there(item, runs, target, index)]
    for problem in problems:
        print(problem)
    code = 1 if problems and not partial else 0
    if dry_run:
        for item in wanted:
            print(f"{join(source.url, item.path)}: {item.size:,} bytes, would be fetched")
    else:
        _fetch_all(source, target, wanted, index, runs)
        index.close(target, runs, [item.path for item in items])
    size = sum(item.size for item in wanted)
    print(
        f"{join(target.url, 'models.csv')}: {sum(item.name == BEST for item in items)} models with "
        f"their records; {len(wanted)} of {len(items)} files, {size / 1e6:,.1f} MB, "
        f"{'would be ' if dry_run else ''}fetched"
    )
    return code


def choose(
    source: Store, runs: Runs, expected: Sequence[str], *, partial: bool
) -> tuple[list[Item], list[str]]:
    """Return the files to collect, and the problems of incomplete runs.

    Args:
        source: Folder of the study.
        runs: Records of the study.
        expected: Names of the required runs.
        partial: Whether to also collect the existing files of incomplete runs.
    """
    sizes = {entry.name: entry.size for entry in source.list()}
    items: list[Item] = []
    problems: list[str] = []
    for run in sorted({*runs.names, *expected}):
        problem = _find_problem(run, runs, sizes)
        if problem is not None:
            problems.append(f"{run}: {problem}")
        if run not in runs.records or (problem is not None and not partial):
            continue
        optional = [
            name.removeprefix(f"{run}/")
            for name in sizes
            if name.startswith(tuple(f"{run}/{start}" for start in OPTIONAL))
        ]
        names = [*optional, *NEEDED]
        items += [Item(run, n, sizes[f"{run}/{n}"]) for n in names if f"{run}/{n}" in sizes]
    return items, problems


def fetch(source: Store, target: Store, item: Item, progress: Callable[[int], None]) -> Kept:
    """Copy a file atomically, and return its size and checksum.

    Raises:
        DataError: If a model does not have the listed size.
        StorageError: If the checksum differs from the writer's, where the store has it.
    """
    digest, count = hashlib.sha256(), 0
    blob = source.open(item.path)
    try:
        with target.create(item.path) as path, path.open("wb") as stream:
            while block := blob.read(count, BLOCK_BYTES):
                stream.write(block)
                digest.update(block)
                count += len(block)
                progress(len(block))
            if item.name == BEST and count != item.size:
                raise DataError(
                    join(source.url, item.path), f"holds {count:,} bytes, not {item.size:,}",
                    "it is being replaced: try again",
                )  # fmt: skip
            # A bucket has the writer's checksum, and opening with another one raises.
            source.open(item.path, digest.hexdigest()).close()
    finally:
        blob.close()
    return Kept(count, digest.hexdigest())


def _fetch_all(
    source: Store, target: Store, wanted: Sequence[Item], index: Index, runs: Runs
) -> None:
    columns = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with open_bar(*columns) as bar:
        task = bar.add_task("collecting", total=sum(item.size for item in wanted))
        for item in wanted:
            bar.update(task, description=item.run)
            kept = fetch(source, target, item, lambda count: bar.advance(task, count))
            index.add(item.run, item.name, kept, digest_record(runs.records[item.run]))
            if item.name == BEST:
                # After every model, so that a restarted command skips the finished models.
                index.write(target)


def _is_there(item: Item, runs: Runs, target: Store, index: Index) -> bool:
    """Return whether a model is collected, belongs to the current record, and is undamaged."""
    kept = index.find(item.run, item.name, digest_record(runs.records[item.run]))
    if item.name != BEST or kept is None or kept.size != item.size:
        return False
    return target.size(item.path) == item.size and _hash(target.local(item.path)) == kept.sha256


def _find_problem(run: str, runs: Runs, sizes: Mapping[str, int]) -> str | None:
    if run in runs.broken:
        return f"its {RECORD} {runs.broken[run]}"
    if run not in runs.records:
        return "there is no such run yet"
    record = runs.records[run]
    if record.status != "completed":
        done = f"{record.epochs_completed} of {record.epochs_planned} epochs"
        return f"is {record.status}, {done}"
    missing = [name for name in NEEDED if f"{run}/{name}" not in sizes]
    return f"lacks {', '.join(missing)}" if missing else None


def _expected(manifests: str | None) -> list[str]:
    if manifests is None:
        return []
    return list(find_scope(JobSelector(manifests=manifests)).configs().values())


def _hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
