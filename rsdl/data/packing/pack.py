"""Pack a source into a dataset: shards, indexes and, last, the manifest.

Shards are packed in parallel by threads: decoding, hashing and file I/O release the GIL, and the
remaining Python code takes a sixth of the time. While a shard is written to the disk or the object
store, the next is filled; spare cores compute hashes. Each finished shard has a small record in
``.packing/``. A run killed at any moment resumes with the first shard without a record. Since a
shard depends on neither time, host nor number of threads, the bytes equal those of an uninterrupted
run.
"""

import hashlib
import json
import logging
import re
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext, suppress

from rsdl import __version__
from rsdl.core.errors import DataError
from rsdl.core.resources import usable_cores
from rsdl.data.class_table import check_table
from rsdl.data.manifest import MANIFEST, Manifest, load_manifest
from rsdl.data.packing.assemble import assemble
from rsdl.data.packing.shard import (
    PLAN,
    WORK,
    Attempt,
    PackedShard,
    PackOptions,
    Progress,
    SharedState,
    StoppedError,
    TakenOverError,
    pack_shard,
)
from rsdl.data.sample import SPLITS, ShardPlan, Source, shard_names
from rsdl.data.targets import KINDS
from rsdl.raster.gate import GATE_VERSION
from rsdl.storage.store import Store

__all__ = ["PackOptions", "pack"]

log = logging.getLogger(__name__)
STAMP = "source-stamp.json"
OURS = re.compile(rf"({'|'.join(SPLITS)})-\d{{6}}\.tar|index-\w+\.npy|{re.escape(STAMP)}")


def pack(
    source: Source, store: Store, options: PackOptions, progress: Progress | None = None
) -> Manifest:
    """Pack a source into a store and return the manifest.

    If the dataset is already packed, this returns at once; an interrupted packing is resumed. If a
    source file was modified since, even with the same size, its shard is packed again: the records
    hold the files' modification times, and ``source-stamp.json`` holds them for a finished dataset.
    Times are part of neither shards nor manifest, so equal images give equal bytes everywhere.

    Args:
        source: The source to pack.
        store: The destination; its root becomes the dataset.
        options: How to pack.
        progress: Called with samples done and total, from several threads, one at a time.

    Raises:
        DataError: If the store holds another dataset, no sample is left, or one is corrupt.
        StorageError: If the store cannot be written.
    """
    check_table(source.classes, store.url, least=KINDS[source.target].least_classes)
    plans = source.shards(options.shard_bytes)
    digest, stamp = _digest(source, options), _stamp(plans)
    if isinstance(claimed := _claim(store, digest, stamp, options), Manifest):
        if next(store.list(WORK), None) is not None:
            # A process was killed after it had linked the manifest, maybe before it had removed the
            # temporary file; writing the same again changes nothing and removes that.
            store.write_once(MANIFEST, store.read(MANIFEST))
        _sweep(store)
        return claimed
    try:
        return _pack_as(claimed, source, store, plans, options, progress)
    except TakenOverError:
        # Another process packing the same dataset may have finished and removed the records.
        if store.size(MANIFEST) is None or not _is_packed(load_manifest(store), digest):
            raise
        return load_manifest(store)


def _pack_as(
    attempt: Attempt,
    source: Source,
    store: Store,
    plans: list[ShardPlan],
    options: PackOptions,
    progress: Progress | None,
) -> Manifest:
    """Pack the shards that have no record, and write the manifest."""
    shards = dict(zip(shard_names(plans), plans, strict=True))
    packed = _pack_all(source, store, shards, options, progress, attempt)
    attempt.check(store)
    manifest = assemble(source, store, plans, packed, attempt.digest)
    for shard in (shard for split in manifest.splits.values() for shard in split.shards):
        if store.size(shard.name) != shard.bytes:
            raise DataError(
                store.url, f"{shard.name} was changed by another", "run the same command again"
            )
    if stamp := _stamp(plans):
        store.write(STAMP, stamp)
    attempt.check(store)
    if not store.write_once(MANIFEST, manifest.to_json()):
        raise DataError(
            store.url,
            "another data set was finished here in the meantime",
            "choose another --out, or run again with --overwrite",
        )
    _sweep(store)
    return manifest


def _stamp(plans: list[ShardPlan]) -> bytes:
    """Return a digest of the files' modification times; empty if the source has no stamps."""
    stamps = [plan.stamp for plan in plans]
    if not any(stamps):
        return b""
    return json.dumps({"sha256": hashlib.sha256(json.dumps(stamps).encode()).hexdigest()}).encode()


def _is_packed(manifest: Manifest, digest: str) -> bool:
    return manifest.provenance.get("pack_digest") == digest


def _sweep(store: Store) -> None:
    """Remove the records; if interrupted, the next run removes the rest."""
    for entry in list(store.list(WORK)):
        if entry.name != PLAN:
            store.delete(entry.name)
    store.delete(PLAN)  # and with it the folder, which a killed run may have emptied


def _digest(source: Source, options: PackOptions) -> str:
    """Return an identifier of the result: the source and every option that changes the bytes."""
    parts = [
        __version__,
        GATE_VERSION,
        source.dataset,
        source.classes,
        source.bands,
        source.dtype,
        source.provenance,
        options.shard_bytes,
        options.on_corrupt,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _claim(store: Store, digest: str, stamp: bytes, options: PackOptions) -> Manifest | Attempt:
    """Claim the store for this attempt, or return the manifest if the dataset is complete."""
    attempt, known = Attempt(digest, secrets.token_hex(8)), None
    if store.size(MANIFEST) is not None:
        manifest = _find_manifest(store, digest, options)
        if manifest is not None and (not stamp or _holds(store, STAMP, stamp)):
            return manifest
        if manifest is not None:
            log.warning(
                "%s: files were written to since they were packed: packing again", store.url
            )
    elif store.size(PLAN) is not None:
        known = json.loads(store.read(PLAN))
        if known.get("digest") == digest and not options.overwrite:
            if "token" not in known:  # written by an earlier version
                store.write(PLAN, attempt.to_json())
            return Attempt(digest, known.get("token", attempt.token))
        if not options.overwrite:
            raise _unfinished(store)
    elif not options.overwrite and any(e.name.endswith(".tar") for e in store.list()):
        raise DataError(
            store.url, "holds tars that are not ours", "choose another --out, or pass --overwrite"
        )
    _clear(store, attempt, takes_over=known is not None)
    return attempt


def _clear(store: Store, attempt: Attempt, *, takes_over: bool) -> None:
    """Write the attempt's plan, and remove what was packed before."""
    if takes_over:  # a process still packing here must see the new plan before its files go
        store.write(PLAN, attempt.to_json())
    store.delete(MANIFEST)
    # Delete only names that rsdl writes: other files in the folder, tars too, belong to the user.
    for entry in list(store.list()):
        mine = takes_over and entry.name == PLAN
        if not mine and (entry.name.startswith(WORK) or OURS.fullmatch(entry.name)):
            store.delete(entry.name)
    if not takes_over and not store.write_once(PLAN, attempt.to_json()):
        raise _unfinished(store)  # another process started packing after the check


def _holds(store: Store, name: str, data: bytes) -> bool:
    return store.size(name) == len(data) and store.read(name) == data


def _unfinished(store: Store) -> DataError:
    return DataError(
        store.url,
        "holds an unfinished data set of another source or other options",
        "finish that one, choose another --out, or pass --overwrite",
    )


def _find_manifest(store: Store, digest: str, options: PackOptions) -> Manifest | None:
    """Return the store's manifest if it is this dataset's; raise if it is another's."""
    try:
        manifest = load_manifest(store)
    except DataError:
        if options.overwrite:
            return None
        raise
    if _is_packed(manifest, digest):
        return manifest
    if not options.overwrite:
        raise DataError(
            store.url,
            f'holds another data set ("{manifest.dataset}", or other options)',
            "choose another --out, or pass --overwrite",
        )
    return None


def _pack_all(
    source: Source,
    store: Store,
    plans: dict[str, ShardPlan],
    options: PackOptions,
    progress: Progress | None,
    attempt: Attempt,
) -> dict[str, PackedShard]:
    packed = {}
    num_workers = options.num_workers or usable_cores()
    total = sum(len(plan.items) for plan in plans.values())
    # Cores that fill no shard compute the hashes of those being filled.
    spare = min(usable_cores() - num_workers, num_workers)
    with (
        ThreadPoolExecutor(spare, "hash") if spare > 0 else nullcontext() as hashing,
        # Twice as many threads as fill shards: the others write to the disk or the object store.
        ThreadPoolExecutor(2 * num_workers, "pack") as pool,
    ):
        shared = SharedState(total, progress, threading.Semaphore(num_workers), hashing, attempt)
        jobs = iter(plans.items())
        futures = [
            pool.submit(pack_shard, source, store, jobs, options, shared) for _ in range(len(plans))
        ]
        try:
            for future in as_completed(futures):
                # The thread that failed raises the actual error.
                with suppress(StoppedError):
                    name, done = future.result()
                    packed[name] = done
        except BaseException:
            shared.stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return packed
