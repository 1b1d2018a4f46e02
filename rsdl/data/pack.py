"""From a source to a data set: shards, indexes and, last of all, the manifest.

Shards are packed in parallel by threads (decoding, hashing and file I/O release the interpreter
lock), each with a small record beside it in ``.packing/``. A run that was killed at any moment goes
on with the first shard that has no record, and since nothing in a shard depends on time, host or
the number of threads, the bytes are those of an uninterrupted run.
"""

import hashlib
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rsdl import __version__
from rsdl.core.errors import CorruptSampleError, DataError
from rsdl.core.machine import usable_cores
from rsdl.data.index import Row, Rows, join_rows, pack_rows, rows_to_bytes
from rsdl.data.manifest import MANIFEST, File, Manifest, Shard, Split, load_manifest
from rsdl.data.sample import SPLITS, Sample, ShardPlan, Source
from rsdl.data.statistics import BandStatistics, merge_statistics
from rsdl.data.tar import TarWriter
from rsdl.storage.store import Store

WORK = ".packing/"
PLAN = WORK + "plan.json"
Progress = Callable[[int, int], None]


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
class _Tally:
    """Samples seen so far, over all threads."""

    total: int
    report: Progress | None
    done: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, count: int) -> None:
        with self._lock:
            self.done += count
            if self.report is not None:
                self.report(self.done, self.total)


def pack(
    source: Source, store: Store, options: PackOptions, progress: Progress | None = None
) -> Manifest:
    """Pack a source into a store and return the manifest.

    Packing again what is already packed returns at once; packing what was interrupted goes on.

    Args:
        source: What to pack.
        store: Where to; its root becomes the data set.
        options: How to.
        progress: Called with samples done and samples in all, from several threads, one at a time.

    Raises:
        DataError: If another data set lies there, no sample is left, or one is corrupt.
        StorageError: If the store cannot be written.
    """
    plans = source.shards(options.shard_bytes)
    digest = _digest(source, options)
    if (manifest := _claim(store, digest, options)) is not None:
        return manifest
    names = _shard_names(plans)
    tally = _Tally(sum(len(plan.items) for plan in plans), progress)
    packed = _pack_all(source, store, list(zip(names, plans, strict=True)), options, tally)
    manifest = _assemble(source, store, plans, packed, digest)
    store.write(MANIFEST, manifest.to_json())
    for entry in list(store.list(WORK)):
        store.delete(entry.name)
    return manifest


def _digest(source: Source, options: PackOptions) -> str:
    """Name the result: what the source is and every option that changes the bytes."""
    parts = [
        __version__,
        source.dataset,
        source.classes,
        source.bands,
        source.dtype,
        source.provenance,
        options.shard_bytes,
        options.on_corrupt,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _claim(store: Store, digest: str, options: PackOptions) -> Manifest | None:
    """Make the store ours, or return the manifest if this very data set is there already."""
    if store.size(MANIFEST) is not None:
        manifest = load_manifest(store)
        if manifest.provenance.get("pack_digest") == digest:
            return manifest
        if not options.overwrite:
            raise DataError(
                store.url,
                f'holds another data set ("{manifest.dataset}", or other options)',
                "choose another --out, or pass --overwrite",
            )
    elif store.size(PLAN) is not None:
        if json.loads(store.read(PLAN)).get("digest") == digest:
            return None
        if not options.overwrite:
            raise DataError(
                store.url,
                "holds an unfinished data set of another source or other options",
                "finish that one, choose another --out, or pass --overwrite",
            )
    elif not options.overwrite and any(e.name.endswith(".tar") for e in store.list()):
        raise DataError(
            store.url, "holds tars that are not ours", "choose another --out, or pass --overwrite"
        )
    store.delete(MANIFEST)
    for entry in list(store.list()):
        if entry.name.startswith((WORK, "index-")) or entry.name.endswith(".tar"):
            store.delete(entry.name)
    store.write(PLAN, json.dumps({"digest": digest}).encode())
    return None


def _shard_names(plans: list[ShardPlan]) -> list[str]:
    counts: dict[str, int] = dict.fromkeys(SPLITS, 0)
    names = []
    for plan in plans:
        number = counts.setdefault(plan.split, 0)
        counts[plan.split] += 1
        names.append(f"{plan.split}-{number:06d}.tar")
    return names


def _pack_all(
    source: Source,
    store: Store,
    jobs: list[tuple[str, ShardPlan]],
    options: PackOptions,
    tally: _Tally,
) -> dict[str, PackedShard]:
    packed = {}
    num_workers = options.num_workers or usable_cores()
    with ThreadPoolExecutor(num_workers, thread_name_prefix="pack") as pool:
        futures = {
            pool.submit(_pack_one, source, store, name, plan, options, tally): name
            for name, plan in jobs
        }
        try:
            for future in as_completed(futures):
                packed[futures[future]] = future.result()
        except BaseException:
            tally.stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return packed


def _pack_one(
    source: Source,
    store: Store,
    name: str,
    plan: ShardPlan,
    options: PackOptions,
    tally: _Tally,
) -> PackedShard:
    if (done := _load_record(store, name)) is not None:
        tally.add(len(plan.items))
        return done
    rows: list[Row] = []
    skipped: list[str] = []
    statistics = BandStatistics.empty(len(source.bands))
    with store.create(name) as path, path.open("wb") as stream:
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
                if plan.split == "train":
                    statistics = statistics.merge(BandStatistics.of(sample.pixels, sample.valid))
            tally.add(1)
        sha256 = writer.close()
    shard = Shard(name=name, bytes=writer.bytes, sha256=sha256, samples=len(rows)) if rows else None
    if shard is None:
        store.delete(name)
    done = PackedShard(shard, pack_rows(rows), statistics, tuple(skipped))
    _save_record(store, name, done)
    return done


def _add(writer: TarWriter, sample: Sample) -> Row:
    image = writer.add(f"{sample.key}.{sample.extension}", sample.image)
    writer.add(f"{sample.key}.cls", str(sample.label).encode())
    text = json.dumps(sample.meta, sort_keys=True, ensure_ascii=False)
    meta = writer.add(f"{sample.key}.json", text.encode())
    return Row(
        key=sample.key,
        extension=sample.extension,
        offset=image.offset,
        length=image.length,
        meta_offset=meta.offset,
        meta_length=meta.length,
        label=sample.label,
    )


def _save_record(store: Store, name: str, done: PackedShard) -> None:
    store.write(f"{WORK}{name}.npy", rows_to_bytes(done.rows))
    record = {
        "shard": done.shard.model_dump() if done.shard else None,
        "statistics": done.statistics.to_lists(),
        "skipped": done.skipped,
    }
    store.write(f"{WORK}{name}.json", json.dumps(record).encode())


def _load_record(store: Store, name: str) -> PackedShard | None:
    if store.size(f"{WORK}{name}.json") is None:
        return None
    record: dict[str, Any] = json.loads(store.read(f"{WORK}{name}.json"))
    shard = Shard.model_validate(record["shard"]) if record["shard"] else None
    if shard is not None and store.size(name) != shard.bytes:
        return None
    rows = np.load(store.local(f"{WORK}{name}.npy"), allow_pickle=False)
    statistics = BandStatistics.from_lists(record["statistics"])
    return PackedShard(shard, rows, statistics, tuple(record["skipped"]))


def _assemble(
    source: Source,
    store: Store,
    plans: list[ShardPlan],
    packed: dict[str, PackedShard],
    digest: str,
) -> Manifest:
    names = _shard_names(plans)
    statistics = merge_statistics([packed[name].statistics for name in names], len(source.bands))
    splits = {}
    for split in dict.fromkeys(plan.split for plan in plans):
        parts = [packed[name] for name in names if name.rpartition("-")[0] == split]
        kept = [part for part in parts if part.shard is not None]
        if kept:
            splits[split] = write_split(
                store,
                split,
                [part.shard for part in kept if part.shard],
                join_rows([part.rows for part in kept]),
                num_classes=len(source.classes),
            )
    if not splits:
        raise DataError(store.url, "no sample is left to pack", "check the source and the options")
    skipped = [line for name in names for line in packed[name].skipped]
    return Manifest(
        dataset=source.dataset,
        classes=source.classes,
        bands=source.bands,
        dtype=source.dtype,
        mean=tuple(statistics.mean.tolist()),
        std=tuple(statistics.std.tolist()),
        provenance={
            **source.provenance,
            "rsdl_version": __version__,
            "pack_digest": digest,
            "num_skipped": len(skipped),
            "skipped": list(skipped[:1000]),
        },
        splits=splits,
    )


def write_split(
    store: Store, name: str, shards: list[Shard], rows: Rows, *, num_classes: int
) -> Split:
    """Write the index of a split and return what the manifest says of it."""
    index = f"index-{name}.npy"
    data = rows_to_bytes(rows)
    store.write(index, data)
    counts = np.bincount(rows["label"], minlength=num_classes)
    return Split(
        samples=len(rows),
        shards=tuple(shards),
        index=File(name=index, bytes=len(data), sha256=hashlib.sha256(data).hexdigest()),
        class_counts=tuple(counts.tolist()),
    )
