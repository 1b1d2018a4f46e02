"""``models.csv`` and ``models.json``: the collected files of a study, with checksums."""

import csv
import hashlib
import io
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rsdl.commands.runs import Runs
from rsdl.core.errors import DataError
from rsdl.evaluate.report import TASK_REPORTS
from rsdl.records.run_record import BEST, RunRecord
from rsdl.storage.connect import join
from rsdl.storage.store import Store

TABLE, INDEX = "models.csv", "models.json"
FACTS = ("run", "architecture", "timm_model", "dataset", "num_classes", "parameters", "status",
         "epochs", "best_epoch")  # fmt: skip
ORIGIN = ("seed", "fold", "config_digest", "manifest_digest", "rsdl_version", "git_revision",
          "file", "bytes", "sha256")  # fmt: skip


class Kept(BaseModel):
    """A collected file: its size in bytes, and its SHA-256."""

    model_config = ConfigDict(frozen=True)

    size: int
    sha256: str

    def __init__(self, size: int, sha256: str) -> None:
        super().__init__(size=size, sha256=sha256)


class Gathered(BaseModel):
    """The collected files of a run.

    Attributes:
        record: Digest of the record that the model belongs to.
        files: Files by name.
    """

    record: str
    files: dict[str, Kept] = Field(default_factory=dict)


class Index(BaseModel):
    """The collected files of a study.

    Attributes:
        source: URL that they were downloaded from.
        runs: Collected files by run.
    """

    format: int = 1
    source: str
    runs: dict[str, Gathered] = Field(default_factory=dict)

    @classmethod
    def read(cls, target: Store, source: str) -> "Index":
        """Return the index of a folder; a new one if there is none.

        Raises:
            DataError: If rsdl did not write the index, or it is of another source.
        """
        if target.size(INDEX) is None:
            return cls(source=source)
        try:
            found = cls.model_validate_json(target.read(INDEX))
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            where = join(target.url, INDEX)
            raise DataError(where, f"is not what rsdl wrote: {reason}", "remove it") from error
        if found.source != source:
            raise DataError(
                join(target.url, INDEX), f"is of {found.source}, not of {source}",
                "choose another --out",
            )  # fmt: skip
        return found

    def find(self, run: str, name: str, record: str) -> Kept | None:
        """Return a file that was collected under this digest of the record, or ``None``."""
        found = self.runs.get(run)
        return found.files.get(name) if found is not None and found.record == record else None

    def add(self, run: str, name: str, kept: Kept, record: str) -> None:
        """Add a file; drop the run's other files if they belong to another record."""
        found = self.runs.setdefault(run, Gathered(record=record))
        if found.record != record:
            found = self.runs[run] = Gathered(record=record)
        found.files[name] = kept

    def write(self, target: Store) -> None:
        """Write ``models.json`` atomically."""
        target.write(INDEX, (self.model_dump_json(indent=1) + "\n").encode())

    def close(self, target: Store, runs: Runs, paths: Sequence[str]) -> None:
        """Write ``models.json`` and ``models.csv``, without files that no longer exist.

        Args:
            target: Folder to write to.
            runs: Records of the study.
            paths: All files to collect.
        """
        for run, found in list(self.runs.items()):
            found.files = {n: k for n, k in sorted(found.files.items()) if f"{run}/{n}" in paths}
            if not found.files:
                del self.runs[run]
        self.write(target)
        stream = io.StringIO()
        records = [runs.records[run] for run in sorted(self.runs)]
        names = dict.fromkeys(name for record in records for name in _metrics(record))
        columns = [*FACTS, *(f"val_{name}" for name in names), *ORIGIN]
        writer = csv.DictWriter(stream, columns, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        for run in sorted(self.runs):
            kept = self.runs[run].files.get(BEST)
            if kept is not None:
                writer.writerow(_line(run, runs.records[run], kept))
        target.write(TABLE, stream.getvalue().encode())


def digest_record(record: RunRecord) -> str:
    """Return the SHA-256 of a record's content.

    Only fields that the file has count, so that a release that adds one keeps what is collected.
    """
    return hashlib.sha256(record.model_dump_json(exclude_unset=True).encode()).hexdigest()


def _metrics(record: RunRecord) -> list[str]:
    columns = TASK_REPORTS[record.task].columns
    return [record.facts.primary_metric, *(name for name, _, _ in columns)]


def _line(run: str, record: RunRecord, kept: Kept) -> dict[str, object]:
    best = record.metrics.get("best", {})
    return record.model_dump() | {
        "run": run,
        "epochs": record.epochs_completed,
        "best_epoch": best.get("epoch"),
        **{f"val_{name}": best.get(name) for name in _metrics(record)},
        "file": f"{run}/{BEST}",
        "bytes": kept.size,
        "sha256": kept.sha256,
    }
