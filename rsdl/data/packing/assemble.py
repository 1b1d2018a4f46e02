"""Build the indexes and the manifest of a dataset from its packed shards."""

import hashlib
from collections import Counter
from collections.abc import Iterable

import numpy as np

from rsdl import __version__
from rsdl.core.errors import DataError
from rsdl.data.class_table import warn_of_absent
from rsdl.data.index import Rows, join_rows, rows_to_bytes
from rsdl.data.manifest import File, Manifest, Shard, Split
from rsdl.data.packing.duplicates import Part, describe_duplicates
from rsdl.data.packing.ground_sampling import describe_ground_sampling
from rsdl.data.packing.shard import PackedShard
from rsdl.data.packing.statistics import merge_statistics
from rsdl.data.sample import ShardPlan, Source, shard_names
from rsdl.storage.store import Store


def assemble(
    source: Source,
    store: Store,
    plans: list[ShardPlan],
    packed: dict[str, PackedShard],
    digest: str,
) -> Manifest:
    """Write the index of each split and return the manifest, without writing the manifest.

    Args:
        source: The source that was packed.
        store: The store of the shards.
        plans: The planned shards.
        packed: The packed shards by name.
        digest: Identifies the result.

    Raises:
        DataError: If no sample is left.
    """
    names = shard_names(plans)
    statistics = merge_statistics([packed[name].statistics for name in names], len(source.bands))
    # rsdl/raster/gate.py makes all pixels finite; a manifest with null values cannot be loaded.
    assert np.isfinite([*statistics.mean, *statistics.std]).all()
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
                class_counts([part.counts for part in kept], len(source.classes)),
            )
    if not splits:
        raise DataError(store.url, "no sample is left to pack", "check the source and the options")
    skipped = [line for name in names for line in packed[name].skipped]
    left_out = Counter(source.left_out)
    for name in names:
        left_out += packed[name].left_out
    warn_of_absent(source.classes, splits, store.url)
    stored = [
        Part(name.rpartition("-")[0], name, packed[name].rows, packed[name].sketches)
        for name in names
        if packed[name].shard is not None
    ]
    duplicates = describe_duplicates(store, stored)
    return Manifest(
        dataset=source.dataset,
        target=source.target,
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
            **({"left_out": dict(sorted(left_out.items()))} if left_out else {}),
            **duplicates,
            **describe_ground_sampling(size for name in names for size in packed[name].gsd_m),
        },
        splits=splits,
    )


def class_counts(counts: Iterable[Counter[int]], num_classes: int) -> tuple[int, ...]:
    """Return how much of each class the targets of several shards hold, ``[num_classes]``."""
    total: Counter[int] = Counter()
    for each in counts:
        total.update(each)
    return tuple(total[number] for number in range(num_classes))


def write_split(
    store: Store, name: str, shards: list[Shard], rows: Rows, counts: tuple[int, ...]
) -> Split:
    """Write the index of a split and return its manifest entry."""
    index = f"index-{name}.npy"
    data = rows_to_bytes(rows)
    store.write(index, data)
    return Split(
        samples=len(rows),
        shards=tuple(shards),
        index=File(name=index, bytes=len(data), sha256=hashlib.sha256(data).hexdigest()),
        class_counts=counts,
    )
