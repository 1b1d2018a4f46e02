"""Verify a dataset against its manifest: every file, every index row, every sample."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np

from rsdl.core.errors import RsdlError, StorageError, UnreachableError
from rsdl.core.resources import usable_cores
from rsdl.data.decode import DecodeRule
from rsdl.data.index import Index, open_index
from rsdl.data.manifest import File, Manifest, Split, load_manifest
from rsdl.data.reader import ShardReader
from rsdl.data.sample import EXTENSIONS
from rsdl.data.sample_reader import SampleReader, Stored
from rsdl.data.shard_store import open_shards
from rsdl.data.tar import Member, hash_file, scan_tar
from rsdl.data.targets import KINDS
from rsdl.data.targets.base import TargetKind
from rsdl.data.webdataset import find_image, group_members
from rsdl.storage.connect import join
from rsdl.storage.store import Store

Progress = Callable[[int, int], None]
Samples = dict[str, dict[str, Member]]


@dataclass(slots=True)
class CheckReport:
    """Result of a verification.

    Attributes:
        num_shards: Shards checked.
        num_samples: Samples checked.
        problems: One line for each problem, with its shard or sample.
    """

    num_shards: int = 0
    num_samples: int = 0
    problems: list[str] = field(default_factory=list)


def check_dataset(store: Store, progress: Progress | None = None) -> CheckReport:
    """Check every checksum, that the index agrees with the tars, and that every sample decodes.

    Args:
        store: The dataset's store.
        progress: Called with samples done and total.

    Raises:
        DataError: If there is no readable manifest.
    """
    manifest = load_manifest(store)
    shards = open_shards(store, manifest)
    report = CheckReport()
    total = sum(split.samples for split in manifest.splits.values())
    with ThreadPoolExecutor(usable_cores(), thread_name_prefix="verify") as pool:
        for name, split in manifest.splits.items():
            index = _check_index(store, manifest, name, report)
            starts = np.cumsum([0, *(shard.samples for shard in split.shards)])
            found = pool.map(
                lambda number, start, index=index, split=split: _check_shard(
                    shards, manifest, split, index, number, int(start)
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


def _check_index(store: Store, manifest: Manifest, name: str, report: CheckReport) -> Index | None:
    split = manifest.splits[name]
    where = join(store.url, split.index.name)
    problems = _check_file(store, split.index)
    try:
        index = open_index(store.local(split.index.name), split, where)
    except RsdlError as error:
        report.problems += problems or [str(error)]
        return None
    report.problems += problems
    if not KINDS[manifest.target].in_index:
        held = index.class_counts
        if held is not None and held.sum(axis=0).tolist() != list(split.class_counts):
            report.problems.append(f"{where}: disagrees with the manifest's counts of {name}")
        return index
    # Damaged labels can have any value: clip out-of-range ones into two extra bins.
    num_classes = len(split.class_counts)
    counts = np.bincount(np.clip(index.labels, -1, num_classes) + 1, minlength=num_classes + 2)
    if counts.tolist() != [0, *split.class_counts, 0]:
        report.problems.append(f"{where}: labels disagree with the manifest's counts of {name}")
    return index


def _check_file(store: Store, file: File) -> list[str]:
    where, size = join(store.url, file.name), store.size(file.name)
    if size is None:
        return [f"{where}: is missing"]
    if size != file.bytes:
        word = "truncated" if size < file.bytes else "too long"
        return [f"{where}: is {word}: {size} of {file.bytes} bytes"]
    try:
        sha256 = hash_file(store.local(file.name))
    except UnreachableError:
        raise
    except StorageError as error:
        return [str(error)]  # the store rejects a copy whose checksum is wrong
    if sha256 != file.sha256:
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
        path = store.local(shard.name)
        samples: Samples | None = group_members(scan_tar(path, where), where)
    except RsdlError as error:
        samples, problems = None, problems or [str(error)]
    expected = shard.samples + _count_left_out(manifest, shard.name)
    if samples is not None and len(samples) != expected:
        problems.append(f"{where}: holds {len(samples)} samples, the index has {shard.samples}")
    rule = DecodeRule(len(manifest.bands), manifest.dtype)
    with closing(SampleReader(ShardReader(store, index.shard_names), index, rule)) as reader:
        for sample in range(start, start + shard.samples):
            key = index.rows["key"][sample].decode(errors="replace")
            members = None if samples is None else samples.get(key, {})
            problem = _check_sample(manifest, reader, sample, members)
            if problem is not None:
                problems.append(f"{where}:{key}: {problem}")
    return problems


def _count_left_out(manifest: Manifest, shard: str) -> int:
    """Return how many samples of a tar were skipped by indexing; the tar still contains them."""
    lines = manifest.provenance.get("skipped")
    return sum(f"{shard}:" in str(line) for line in lines) if isinstance(lines, list) else 0


def _check_sample(
    manifest: Manifest, reader: SampleReader, sample: int, members: dict[str, Member] | None
) -> str | None:
    """Return the problem of a sample, if any; ``members`` is ``None`` if the tar is unreadable."""
    kind, num_classes = KINDS[manifest.target], len(manifest.classes)
    if kind.in_index and (wrong := kind.problem(reader.target(sample, kind), num_classes)):
        return wrong
    if reader.index.rows["extension"][sample] >= len(EXTENSIONS):
        return "the index does not say what kind of image it is"
    stored = reader.locate(sample)
    try:
        if members is not None and (wrong := _compare(reader, stored, members, kind)):
            return wrong
        if not kind.in_index:
            target, counts = reader.target(sample, kind), reader.index.class_counts
            if wrong := kind.problem(target, num_classes):
                return wrong
            held = kind.count(target)
            if counts is not None and counts[sample].tolist() != [
                held[number] for number in range(num_classes)
            ]:
                return f"the index counts other {kind.counts} than its target holds"
        reader.pixels(stored)
    except RsdlError as error:
        return error.problem
    return None


def _compare(
    reader: SampleReader, stored: Stored, members: dict[str, Member], kind: TargetKind
) -> str | None:
    """Return how the index and the tar disagree, or ``None``."""
    if not members:
        return "is in the index, but not in the tar"
    image, _ = find_image(members, "")
    if (image.offset, image.length) != (stored.offset, stored.length):
        return "the index and the tar disagree on where it lies"
    row = reader.index.rows[stored.sample]
    if not kind.in_index:
        own = members.get(kind.member)
        place = int(row["target_offset"]), int(row["target_length"])
        if own is None or (own.offset, own.length) != place:
            return "the index and the tar disagree on where its target lies"
        return None

    def content(member: Member) -> bytes:
        return reader.shards.read(stored.shard, member.offset, member.length)

    found, _ = kind.find(members, content, "")
    if (label := kind.label(found)) != int(row["label"]):
        return f"has label {row['label']} in the index and {label} in the tar"
    return None
