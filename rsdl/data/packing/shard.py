"""Pack the items of a source into one shard: a tar, and a record of its content.

The record is written to ``.packing/`` after the shard, so a shard with a record is complete and
need not be packed again.
"""

import base64
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rsdl.core.errors import CorruptSampleError, DataError
from rsdl.data.index import Row, Rows, group_key, pack_rows, rows_to_bytes
from rsdl.data.manifest import Shard
from rsdl.data.npy import read_npy
from rsdl.data.packing.duplicates import Sketches, sketch
from rsdl.data.packing.ground_sampling import GroundSampling
from rsdl.data.packing.statistics import BandStatistics, RunningStatistics
from rsdl.data.sample import Sample, ShardPlan, Source
from rsdl.data.tar import TarWriter
from rsdl.data.targets import KINDS
from rsdl.data.targets.base import TargetKind
from rsdl.storage.store import Store

WORK = ".packing/"
PLAN = WORK + "plan.json"
Progress = Callable[[int, int], None]
META = json.JSONEncoder(sort_keys=True, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class PackOptions:
    """How to pack.

    Attributes:
        shard_bytes: Target size of one shard.
        on_corrupt: ``error`` stops at a sample that cannot be decoded, ``skip`` leaves it out.
        overwrite: Whether to replace another dataset in the store.
        num_workers: Shards filled at a time, each by a thread; ``None`` takes one for each core
            that this process may use. As many more may be in transfer to the store.
    """

    shard_bytes: int = 64 << 20
    on_corrupt: str = "error"
    overwrite: bool = False
    num_workers: int | None = None


@dataclass(frozen=True, slots=True)
class PackedShard:
    """The record of a finished shard.

    Attributes:
        counts: How much of each class its targets hold.
        gsd_m: Side of a pixel on the ground of each georeferenced source file, in metres.
    """

    shard: Shard | None
    rows: Rows
    counts: Counter[int]
    statistics: BandStatistics
    skipped: tuple[str, ...]
    sketches: Sketches
    left_out: Counter[str]
    gsd_m: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Attempt:
    """Ownership of a store while it is packed: the owner is the attempt whose token is in its plan.

    Processes that pack the same dataset share a token, since they write the same bytes. A process
    with ``overwrite`` writes its own token, and all others stop before their next write.

    Attributes:
        digest: Identifies the result.
        token: Random token of the process that started the attempt.
    """

    digest: str
    token: str

    def check(self, store: Store) -> None:
        """Raise if another attempt has taken over the store.

        Raises:
            TakenOverError: If the plan has another token, or another attempt has finished.
        """
        plan = json.loads(store.read(PLAN)) if store.size(PLAN) is not None else {}
        if plan.get("token") != self.token:
            raise TakenOverError(
                store.url,
                "another packing has taken over",
                "wait for that one, or choose another --out",
            )

    def to_json(self) -> bytes:
        """Return the plan that claims a store for this attempt."""
        return json.dumps({"digest": self.digest, "token": self.token}).encode()


class TakenOverError(DataError):
    """Another process packs into the store, or has finished there."""


@dataclass(slots=True)
class SharedState:
    """State shared by the packing threads.

    Attributes:
        total: Total number of samples.
        report: Called with samples done and total, by one thread at a time.
        slots: Semaphore held while a shard is filled and released while it is stored, so that as
            many shards are filled at once as there are cores.
        hashing: Executor that hashes the written bytes; ``None``: the filling threads hash them.
        attempt: The attempt that owns the store.
        done: Samples done.
        stop: Set when a shard has failed.
    """

    total: int
    report: Progress | None
    slots: AbstractContextManager[Any]
    hashing: Executor | None
    attempt: Attempt
    done: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, count: int) -> None:
        """Count samples as done and report it."""
        with self._lock:
            self.done += count
            if self.report is not None:
                self.report(self.done, self.total)


class StoppedError(Exception):
    """Packing was stopped because another shard failed."""


def pack_shard(
    source: Source,
    store: Store,
    jobs: Iterator[tuple[str, ShardPlan]],
    options: PackOptions,
    shared: SharedState,
) -> tuple[str, PackedShard]:
    """Pack the next shard, or load its record if it is already packed.

    Args:
        source: The source of the items.
        store: The destination.
        jobs: Names and plans of shards, shared by all threads; the next one is taken.
        options: How to pack.
        shared: State shared by the packing threads.

    Returns:
        Name and record of the shard.

    Raises:
        CorruptSampleError: If an item is corrupt and ``options.on_corrupt`` is not ``skip``.
        StoppedError: If another shard failed.
    """
    # Release the slot before storing the shard.
    with ExitStack() as storing, shared.slots:
        name, plan = next(jobs)
        if (done := load_record(store, name, shared.attempt.digest, plan.stamp)) is not None:
            shared.add(len(plan.items))
            return name, done
        path = storing.enter_context(store.create(name))
        done = _fill(source, path, name, plan, options, shared)
        shared.attempt.check(store)
    shared.attempt.check(store)
    if done.shard is None:
        store.delete(name)
    save_record(store, name, done, shared.attempt.digest, plan.stamp)
    return name, done


def _fill(
    source: Source,
    path: Path,
    name: str,
    plan: ShardPlan,
    options: PackOptions,
    shared: SharedState,
) -> PackedShard:
    kind = KINDS[source.target]
    classes = () if kind.in_index else range(len(source.classes))
    rows: list[Row] = []
    counts: Counter[int] = Counter()
    sketches: list[int] = []
    skipped: list[str] = []
    left_out: Counter[str] = Counter()
    statistics, ground = RunningStatistics(len(source.bands)), GroundSampling()
    try:
        with path.open("wb") as stream:
            writer = TarWriter(stream, shared.hashing)
            for item in plan.items:
                if shared.stop.is_set():
                    raise StoppedError
                sample = _read(source, item, options, skipped)
                if isinstance(sample, str):
                    left_out[sample] += 1
                elif sample is not None:
                    held = kind.count(sample.target)
                    counts.update(held)
                    rows.append(_add(writer, sample, kind, [held[n] for n in classes]))
                    ground.add(sample.meta)
                    sketches.append(sketch(sample.image))
                    if plan.split == "train" and sample.pixels is not None:
                        statistics.add(sample.pixels, sample.valid)
                shared.add(1)
            sha256 = writer.close()
    except BaseException:
        shared.stop.set()  # before another thread gets the slot
        raise
    shard = Shard(name=name, bytes=writer.bytes, sha256=sha256, samples=len(rows)) if rows else None
    return PackedShard(
        shard,
        pack_rows(rows),
        counts,
        statistics.total(),
        tuple(skipped),
        np.array(sketches, np.uint64),
        left_out,
        ground.sizes(),
    )


def _read(
    source: Source,
    item: Any,  # noqa: ANN401 - each source has its own items
    options: PackOptions,
    skipped: list[str],
) -> Sample | str | None:
    try:
        return source.read(item)
    except CorruptSampleError as error:
        if options.on_corrupt == "error":
            error.remedy = f"{error.remedy or 'mend it'}, or pass --on-corrupt skip"
            raise
        skipped.append(str(error))
        return None


def _add(writer: TarWriter, sample: Sample, kind: TargetKind, held: list[int]) -> Row:
    """Write a sample, and return its row; its target holds so much of each class."""
    key, extension, image, target = sample[:4]
    meta = META.encode(sample.meta).encode(errors="backslashreplace")
    data = kind.encode(target)
    offset, target_offset, meta_offset = writer.add_group(
        key, ((extension, image), (kind.member, data), ("json", meta))
    )
    row = Row(key, extension, offset, len(image), meta_offset, len(meta), kind.label(target))
    if sample.group is not None:
        row = row._replace(group=group_key(sample.group))
    if kind.in_index:
        return row
    return row._replace(
        target_offset=target_offset, target_length=len(data), class_counts=tuple(held)
    )


def save_record(store: Store, name: str, done: PackedShard, digest: str, stamp: str) -> None:
    """Write the record of a complete shard."""
    record = {
        "digest": digest,
        "stamp": stamp,
        "shard": done.shard.model_dump() if done.shard else None,
        "statistics": done.statistics.to_lists(),
        "skipped": done.skipped,
        "rows": base64.b64encode(rows_to_bytes(done.rows)).decode(),
        "counts": sorted(done.counts.items()),
        "sketches": done.sketches.tolist(),
        "left_out": done.left_out,
        "gsd_m": done.gsd_m,
    }
    store.write(_record_name(name), json.dumps(record).encode())


def load_record(store: Store, name: str, digest: str, stamp: str) -> PackedShard | None:
    """Return the record of a shard, or ``None`` if there is no valid one.

    A record is invalid if it is of another dataset or an older release with fewer fields, if source
    files were modified since, or if the shard's size differs.
    """
    if store.size(_record_name(name)) is None:
        return None
    record: dict[str, Any] = json.loads(store.read(_record_name(name)))
    if (record.get("digest"), record.get("stamp")) != (digest, stamp) or "counts" not in record:
        return None
    shard = Shard.model_validate(record["shard"]) if record["shard"] else None
    if shard is not None and store.size(name) != shard.bytes:
        return None
    rows = read_npy(base64.b64decode(record["rows"]))
    statistics = BandStatistics.from_lists(record["statistics"])
    sketches = np.array(record["sketches"], np.uint64)
    left_out = Counter(record["left_out"])
    counts = Counter(dict(record["counts"]))
    return PackedShard(
        shard,
        rows,
        counts,
        statistics,
        tuple(record["skipped"]),
        sketches,
        left_out,
        tuple(record.get("gsd_m", ())),
    )


def _record_name(name: str) -> str:
    return f"{WORK}{name}.record"
