"""One shard: from the items of a source to a tar and a record of what is in it.

The record lies beside the shard in ``.packing/`` and is written after it, so a shard with a record
is complete and need not be packed again. Packing a shard and putting it in its place are apart: the
first takes processors, the second waits for the disk or the network.
"""

import json
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from rsdl.core.errors import CorruptSampleError, DataError
from rsdl.data.index import Row, Rows, pack_rows, rows_to_bytes
from rsdl.data.manifest import Shard
from rsdl.data.sample import Sample, ShardPlan, Source
from rsdl.data.statistics import BandStatistics
from rsdl.data.tar import TarWriter
from rsdl.storage.store import Store

WORK = ".packing/"
Progress = Callable[[int, int], None]
META = json.JSONEncoder(sort_keys=True, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class PackOptions:
    """How to pack.

    Attributes:
        shard_bytes: Size to aim at for one shard.
        on_corrupt: ``error`` stops at a sample that cannot be decoded, ``skip`` leaves it out.
        overwrite: Whether to replace another data set that lies there.
        num_workers: Threads; ``None`` takes one for each core that this process may use.
    """

    shard_bytes: int = 64 << 20
    on_corrupt: str = "error"
    overwrite: bool = False
    num_workers: int | None = None


@dataclass(frozen=True, slots=True)
class PackedShard:
    """What is known of a finished shard."""

    shard: Shard | None
    rows: Rows
    statistics: BandStatistics
    skipped: tuple[str, ...]


@dataclass(slots=True)
class Tally:
    """Samples seen so far, over all threads.

    Attributes:
        total: Samples in all.
        report: Called with samples done and in all, by one thread at a time.
        done: Samples done.
        stop: Set when another shard has failed.
        cause: What it failed of, the first of all.
    """

    total: int
    report: Progress | None
    done: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    cause: BaseException | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, count: int) -> None:
        """Count samples as done and report it."""
        with self._lock:
            self.done += count
            if self.report is not None:
                self.report(self.done, self.total)

    def fail(self, cause: BaseException) -> None:
        """Have all others stop, at once: not one more item is read."""
        with self._lock:
            self.cause = self.cause or cause
            self.stop.set()


def pack_shard(
    source: Source,
    store: Store,
    name: str,
    plan: ShardPlan,
    options: PackOptions,
    tally: Tally,
) -> Callable[[], PackedShard]:
    """Pack one shard, unless a record says that it is packed already.

    Args:
        source: What to read the items from.
        store: Where to write.
        name: Name of the shard.
        plan: Its items.
        options: How to pack.
        tally: Where samples are counted.

    Returns:
        What puts the shard in its place and returns what is known of it; to be called once, by any
        thread.

    Raises:
        CorruptSampleError: If an item is corrupt and ``options`` do not say to skip it.
        DataError: If packing was stopped because another shard failed.
    """
    if (done := load_record(store, name)) is not None:
        tally.add(len(plan.items))
        return partial(_recall, done)
    rows: list[Row] = []
    skipped: list[str] = []
    statistics = BandStatistics.empty(len(source.bands))
    with ExitStack() as stack:
        path = stack.enter_context(store.create(name))
        with path.open("wb") as stream:
            writer = TarWriter(stream)
            for item in plan.items:
                if tally.stop.is_set():
                    raise DataError(name, "packing was stopped", "run the same command again")
                try:
                    sample = source.read(item)
                except CorruptSampleError as error:
                    if options.on_corrupt == "error":
                        error.remedy = f"{error.remedy or 'mend it'}, or pass --on-corrupt skip"
                        raise
                    skipped.append(str(error))
                    sample = None
                if sample is not None:
                    rows.append(_add(writer, sample))
                    if plan.split == "train" and sample.pixels is not None:
                        part = BandStatistics.of(sample.pixels, sample.valid)
                        statistics = statistics.merge(part)
                tally.add(1)
            sha256 = writer.close()
        created = stack.pop_all()
    shard = Shard(name=name, bytes=writer.bytes, sha256=sha256, samples=len(rows)) if rows else None
    done = PackedShard(shard, pack_rows(rows), statistics, tuple(skipped))
    return partial(_place, store, name, created, done)


def _recall(done: PackedShard) -> PackedShard:
    return done


def _place(store: Store, name: str, created: ExitStack, done: PackedShard) -> PackedShard:
    created.close()
    if done.shard is None:
        store.delete(name)
    save_record(store, name, done)
    return done


def _add(writer: TarWriter, sample: Sample) -> Row:
    image = writer.add(f"{sample.key}.{sample.extension}", sample.image)
    writer.add(f"{sample.key}.cls", str(sample.label).encode())
    text = META.encode(sample.meta)
    meta = writer.add(f"{sample.key}.json", text.encode(errors="backslashreplace"))
    return Row(
        key=sample.key,
        extension=sample.extension,
        offset=image.offset,
        length=image.length,
        meta_offset=meta.offset,
        meta_length=meta.length,
        label=sample.label,
    )


def save_record(store: Store, name: str, done: PackedShard) -> None:
    """Write the record of a shard that is complete."""
    store.write(f"{WORK}{name}.npy", rows_to_bytes(done.rows))
    record = {
        "shard": done.shard.model_dump() if done.shard else None,
        "statistics": done.statistics.to_lists(),
        "skipped": done.skipped,
    }
    store.write(f"{WORK}{name}.json", json.dumps(record).encode())


def load_record(store: Store, name: str) -> PackedShard | None:
    """Return the record of a shard, or ``None`` where it has none or is not what it says."""
    if store.size(f"{WORK}{name}.json") is None:
        return None
    record: dict[str, Any] = json.loads(store.read(f"{WORK}{name}.json"))
    shard = Shard.model_validate(record["shard"]) if record["shard"] else None
    if shard is not None and store.size(name) != shard.bytes:
        return None
    rows = np.load(store.local(f"{WORK}{name}.npy"), allow_pickle=False)
    statistics = BandStatistics.from_lists(record["statistics"])
    return PackedShard(shard, rows, statistics, tuple(record["skipped"]))
