"""Is a data set what its manifest says? Every file, every row, every sample."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from rsdl.core.errors import RsdlError
from rsdl.core.machine import usable_cores
from rsdl.data.decode import decode_image
from rsdl.data.index import Index, open_index
from rsdl.data.manifest import File, Manifest, Split, load_manifest
from rsdl.data.reader import ShardReader
from rsdl.data.sample import EXTENSIONS
from rsdl.data.tar import Member, hash_file, scan_tar
from rsdl.storage.connect import join
from rsdl.storage.store import Store

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class CheckReport:
    """What a check found.

    Attributes:
        num_shards: Shards looked at.
        num_samples: Samples looked at.
        problems: One line for each thing that is wrong, naming shard or sample.
    """

    num_shards: int = 0
    num_samples: int = 0
    problems: list[str] = field(default_factory=list)


def check_dataset(store: Store, progress: Progress | None = None) -> CheckReport:
    """Check every checksum, that the index agrees with the tars, and that every sample decodes.

    Args:
        store: Where the data set lies.
        progress: Called with samples done and samples in all.

    Raises:
        DataError: If there is no manifest to check against.
    """
    manifest = load_manifest(store)
    report = CheckReport()
    total = sum(split.samples for split in manifest.splits.values())
    with ThreadPoolExecutor(usable_cores(), thread_name_prefix="verify") as pool:
        for name, split in manifest.splits.items():
            index = _check_index(store, name, split, report)
            starts = np.cumsum([0, *(shard.samples for shard in split.shards)])
            found = pool.map(
                lambda number, start, index=index, split=split: _check_shard(
                    store, manifest, split, index, number, int(start)
                ),
                range(len(split.shards)),
                starts[:-1],
            )
            for shard, problems in zip(split.shards, found, strict=True):
                report.problems += problems
                report.num_shards += 1
                report.num_samples += shard.samples
                if progress is not None:
                    progress(report.num_samples, total)
    return report


def _check_index(store: Store, name: str, split: Split, report: CheckReport) -> Index | None:
    where = join(store.url, split.index.name)
    problems = _check_file(store, split.index)
    try:
        index = open_index(store.local(split.index.name), split, where)
    except RsdlError as error:
        report.problems += problems or [str(error)]
        return None
    report.problems += problems
    counts = np.bincount(np.clip(index.labels, 0, None), minlength=len(split.class_counts))
    if counts.tolist() != list(split.class_counts):
        report.problems.append(f"{where}: labels disagree with the manifest's counts of {name}")
    return index


def _check_file(store: Store, file: File) -> list[str]:
    where, size = join(store.url, file.name), store.size(file.name)
    if size is None:
        return [f"{where}: is missing"]
    if size != file.bytes:
        word = "truncated" if size < file.bytes else "too long"
        return [f"{where}: is {word}: {size} of {file.bytes} bytes"]
    if hash_file(store.local(file.name)) != file.sha256:
        return [f"{where}: its SHA-256 is not the manifest's: the content has changed"]
    return []


def _check_shard(
    store: Store, manifest: Manifest, split: Split, index: Index | None, number: int, start: int
) -> list[str]:
    shard = split.shards[number]
    where = join(store.url, shard.name)
    problems = _check_file(store, shard)
    if index is None or store.size(shard.name) is None:
        return problems
    try:
        members = {member.offset: member for member in scan_tar(store.local(shard.name), where)}
    except RsdlError as error:
        members, problems = {}, problems or [str(error)]
    reader = ShardReader(store, index.shard_names)
    for sample in range(start, start + shard.samples):
        problem = _check_sample(manifest, index, reader, members, sample, number)
        if problem is not None:
            problems.append(f"{where}: {problem}")
    reader.close()
    return problems


def _check_sample(
    manifest: Manifest,
    index: Index,
    reader: ShardReader,
    members: dict[int, Member],
    sample: int,
    shard: int,
) -> str | None:
    row = index.rows[sample]
    key, kind = row["key"].decode(), EXTENSIONS[int(row["extension"])]
    offset, length = int(row["offset"]), int(row["length"])
    member = members.get(offset)
    if members and (member is None or member.length != length or member.key != key):
        return f"{key}: the index and the tar disagree on where it lies"
    if not 0 <= int(row["label"]) < len(manifest.classes):
        return f"{key}: label {row['label']} is out of range"
    try:
        pixels = decode_image(reader.read(shard, offset, length), kind, key, len(manifest.bands))
    except RsdlError as error:
        return str(error)
    if str(pixels.dtype) != manifest.dtype:
        return f"{key}: has {pixels.dtype} pixels, the data set {manifest.dtype}"
    return None
