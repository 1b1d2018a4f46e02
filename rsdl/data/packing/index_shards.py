"""Index WebDataset shards that rsdl did not write.

The tars are not moved or changed; an index for each split and a manifest are written beside them,
or to another store if theirs is read-only. A sample needs an image member and a class: ``cls`` in
ASCII, or ``json`` with ``label`` or ``cls``. An image that packing would have to change (nodata, a
rotated photograph) is an error, or is skipped.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from rsdl import __version__
from rsdl.core.errors import DataError, StorageError
from rsdl.core.resources import usable_cores
from rsdl.data.class_table import check_table, warn_of_absent
from rsdl.data.index import join_rows
from rsdl.data.manifest import MANIFEST, Manifest
from rsdl.data.packing.assemble import class_counts, write_split
from rsdl.data.packing.class_numbers import class_names
from rsdl.data.packing.duplicates import Part, describe_duplicates
from rsdl.data.packing.scan_shard import ScannedShard, Taken, probe_layout, scan_shard
from rsdl.data.packing.shard_groups import group_shards
from rsdl.data.packing.statistics import merge_statistics
from rsdl.data.shard_store import SHARDS_URL, absolute_url, is_same_place
from rsdl.raster.gate import BandAgreement
from rsdl.storage.store import Store

Progress = Callable[[int, int], None]


def index_shards(
    store: Store,
    out: Store | None = None,
    *,
    globs: Sequence[str] = (),
    classes: tuple[str, ...] | None = None,
    on_corrupt: str = "error",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Write indexes and a manifest for the tars in a store.

    Args:
        store: The store of the tars; nothing is written to it if ``out`` is another store.
        out: The store for indexes and manifest; ``None`` writes them beside the tars.
        globs: ``SPLIT=GLOB`` for tars whose names do not tell their split.
        classes: Class names in order; ``None`` takes them from the samples' ``json``, or numbers.
        on_corrupt: ``error`` stops at a sample that cannot be used, ``skip`` leaves it out.
        overwrite: Whether to replace an existing manifest.
        progress: Called with the shards done and the total of shards.

    Raises:
        DataError: If there are no tars, or one holds samples that rsdl cannot train on.
    """
    if out is None or is_same_place(store, out):
        out = store
    if out.size(MANIFEST) is not None and not overwrite:
        raise DataError(out.url, "has a manifest already", "pass --overwrite to index it anew")
    left_out: Counter[str] = Counter()
    groups = group_shards(store, globs, left_out)
    jobs = [(split, name) for split, names in groups.items() for name in names]
    bands, dtype = layout = probe_layout(store, [name for _, name in jobs])
    agreement = BandAgreement()
    measured = "train" if "train" in groups else next(iter(groups))
    scanned: dict[str, ScannedShard] = {}
    with ThreadPoolExecutor(usable_cores(), thread_name_prefix="index") as pool:
        results = pool.map(
            lambda job: scan_shard(
                store,
                job[1],
                Taken(layout, agreement, on_corrupt, named=classes is not None),
                measure=job[0] == measured,
            ),
            jobs,
        )
        for (_, name), result in zip(jobs, results, strict=True):
            scanned[name] = result
            if progress is not None:
                progress(len(scanned), len(jobs))
    names = class_names(
        {name: (result.rows["label"], result.names) for name, result in scanned.items()},
        classes,
        store.url,
    )
    check_table(names, store.url)
    try:
        splits = {
            split: write_split(
                out,
                split,
                [scanned[name].shard for name in members],
                join_rows([scanned[name].rows for name in members]),
                class_counts([scanned[name].counts for name in members], len(names)),
            )
            for split, members in groups.items()
        }
    except StorageError as error:
        if out is store:
            error.remedy = f"{error.remedy or 'try again'}, or index into another place with --out"
        raise
    warn_of_absent(names, splits, store.url)
    statistics = merge_statistics([scanned[name].statistics for _, name in jobs], bands)
    assert np.isfinite([*statistics.mean, *statistics.std]).all()
    skipped = [line for _, name in jobs for line in scanned[name].skipped]
    for _, name in jobs:
        left_out += scanned[name].left_out
    duplicates = describe_duplicates(
        store,
        [Part(split, name, scanned[name].rows, scanned[name].sketches) for split, name in jobs],
    )
    manifest = Manifest.model_validate(
        {
            "dataset": Path(store.url).name or "foreign",
            "classes": names,
            "bands": ("red", "green", "blue") if bands == 3 else _number("band", bands),
            "dtype": dtype,
            "mean": statistics.mean.tolist(),
            "std": statistics.std.tolist(),
            "provenance": {
                "source": "foreign WebDataset shards",
                "split_rule": "as found",
                "rsdl_version": __version__,
                **({} if out is store else {SHARDS_URL: absolute_url(store)}),
                **({"num_skipped": len(skipped), "skipped": skipped} if skipped else {}),
                **({"left_out": dict(sorted(left_out.items()))} if left_out else {}),
                **duplicates,
            },
            "splits": splits,
        }
    )
    if overwrite:
        out.write(MANIFEST, manifest.to_json())
    elif not out.write_once(MANIFEST, manifest.to_json()):
        raise DataError(out.url, "was indexed in the meantime", "pass --overwrite to do it anew")
    return manifest


def _number(word: str, count: int) -> tuple[str, ...]:
    return tuple(f"{word}_{place + 1}" for place in range(count))
