"""Index WebDataset shards that someone else wrote, in place.

The tars stay as they are; an index for each split and a manifest are put beside them. A sample
needs an image member and a class: ``cls`` in ASCII, or ``json`` with ``label`` or ``cls``.
"""

import fnmatch
import json
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rsdl import __version__
from rsdl.core.errors import DataError
from rsdl.core.machine import usable_cores
from rsdl.data.decode import SUFFIXES, check_kind, decode_image
from rsdl.data.index import Row, Rows, join_rows, pack_rows
from rsdl.data.manifest import MANIFEST, Manifest, Shard
from rsdl.data.pack import write_split
from rsdl.data.statistics import BandStatistics, merge_statistics
from rsdl.data.tar import Member, hash_file, scan_tar
from rsdl.storage.connect import join
from rsdl.storage.store import Store

SPLIT_WORDS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "dev": "val", "test": "test", "testing": "test", "eval": "test",
}  # fmt: skip
DTYPES = ("uint8", "uint16", "float32")
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ScannedShard:
    """What one foreign tar holds."""

    shard: Shard
    rows: Rows
    names: dict[int, str]
    statistics: BandStatistics
    layout: tuple[int, str]


def index_shards(
    store: Store,
    *,
    globs: Sequence[str] = (),
    classes: tuple[str, ...] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Write indexes and a manifest for the tars in a store.

    Args:
        store: Where the tars lie.
        globs: ``SPLIT=GLOB`` for tars whose names do not tell their split.
        classes: Class names in order; ``None`` takes them from the samples' ``json``, or numbers.
        overwrite: Whether to replace a manifest that is there.
        progress: Called with shards done and shards in all.

    Raises:
        DataError: If there are no tars, or one holds what rsdl cannot train on.
    """
    if store.size(MANIFEST) is not None and not overwrite:
        raise DataError(store.url, "has a manifest already", "pass --overwrite to index it anew")
    groups = group_shards(store, globs)
    jobs = [(split, name) for split, names in groups.items() for name in names]
    scanned: dict[str, ScannedShard] = {}
    with ThreadPoolExecutor(usable_cores(), thread_name_prefix="index") as pool:
        results = pool.map(lambda job: scan_shard(store, job[1], measure=job[0] == "train"), jobs)
        for (_, name), result in zip(jobs, results, strict=True):
            scanned[name] = result
            if progress is not None:
                progress(len(scanned), len(jobs))
    layouts = {result.layout for result in scanned.values()}
    if len(layouts) > 1:
        raise DataError(store.url, f"mixes images of {sorted(layouts)}", "keep one kind")
    bands, dtype = layouts.pop()
    names = class_names(scanned, classes, store.url)
    splits = {
        split: write_split(
            store,
            split,
            [scanned[name].shard for name in members],
            join_rows([scanned[name].rows for name in members]),
            num_classes=len(names),
        )
        for split, members in groups.items()
    }
    statistics = merge_statistics([scanned[name].statistics for _, name in jobs], bands)
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
            },
            "splits": splits,
        }
    )
    store.write(MANIFEST, manifest.to_json())
    return manifest


def group_shards(store: Store, globs: Sequence[str]) -> dict[str, list[str]]:
    """Return the tars of each split, sorted; by ``SPLIT=GLOB``, by name, or all as train."""
    tars = [entry.name for entry in store.list() if entry.name.endswith(".tar")]
    if not tars:
        raise DataError(store.url, "holds no .tar", "name the folder of the shards")
    groups: dict[str, list[str]] = {}
    for text in globs:
        split, equals, pattern = text.partition("=")
        if not equals or split not in ("train", "val", "test"):
            raise DataError("--split", f'"{text}" is not SPLIT=GLOB', 'write "train=part-*.tar"')
        found = fnmatch.filter(tars, pattern)
        if not found:
            raise DataError("--split", f'no tar matches "{pattern}"', f"there is {tars[0]}")
        groups.setdefault(split, []).extend(found)
    if globs:
        return groups
    for name in tars:
        words = re.split(r"[^a-z]+", name.lower())
        split = next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), "train")
        groups.setdefault(split, []).append(name)
    return groups


def scan_shard(store: Store, name: str, *, measure: bool) -> ScannedShard:
    """Return the index rows of one tar; ``measure`` decodes everything for statistics."""
    path, where = store.local(name), join(store.url, name)
    samples: dict[str, dict[str, Member]] = {}
    for member in scan_tar(path, where):
        samples.setdefault(member.key, {})[member.extension] = member
    rows: list[Row] = []
    names: dict[int, str] = {}
    layout: tuple[int, str] | None = None
    statistics: BandStatistics | None = None
    with path.open("rb") as stream:

        def content(member: Member) -> bytes:
            stream.seek(member.offset)
            return stream.read(member.length)

        for key, members in samples.items():
            place = f"{where}:{key}"
            image, kind = find_image(members, place)
            label, class_name = find_label(members, content, place)
            if class_name is not None:
                names[label] = class_name
            if layout is None or measure:
                data = content(image)
                check_kind(data, kind, place)
                pixels = decode_image(data, kind, place)
                layout = layout or (pixels.shape[2], str(pixels.dtype))
                if layout != (pixels.shape[2], str(pixels.dtype)) or layout[1] not in DTYPES:
                    raise DataError(
                        place,
                        f"has {pixels.shape[2]} bands of {pixels.dtype}, "
                        f"expected {layout[0]} of {layout[1]}",
                        "keep one kind of uint8, uint16 or float32",
                    )
                statistics = (statistics or BandStatistics.empty(layout[0])).merge(
                    BandStatistics.of(pixels)
                )
            meta = members.get("json")
            rows.append(
                Row(
                    key=key,
                    extension=kind,
                    offset=image.offset,
                    length=image.length,
                    meta_offset=meta.offset if meta else 0,
                    meta_length=meta.length if meta else 0,
                    label=label,
                )
            )
    assert layout is not None and statistics is not None, "scan_tar yields at least one member"
    if not measure:
        statistics = BandStatistics.empty(layout[0])
    size = path.stat().st_size
    shard = Shard(name=name, bytes=size, sha256=hash_file(path), samples=len(rows))
    return ScannedShard(shard, pack_rows(rows), names, statistics, layout)


def find_image(members: dict[str, Member], where: str) -> tuple[Member, str]:
    """Return the image of a sample and what it is."""
    for extension, member in members.items():
        kind = SUFFIXES.get("." + extension.rpartition(".")[2])
        if kind is not None:
            return member, kind
    found = ", ".join(members)
    raise DataError(where, f"has no image, only {found}", "images are jpg, png, tif or npy")


def find_label(
    members: dict[str, Member], content: Callable[[Member], bytes], where: str
) -> tuple[int, str | None]:
    """Return the class index of a sample, and the class's name where its ``json`` tells."""
    page: object = {}
    if "json" in members:
        try:
            page = json.loads(content(members["json"]))
        except ValueError as error:
            raise DataError(f"{where}.json", "is not JSON") from error
    facts = page if isinstance(page, dict) else {}
    name = next((facts[key] for key in ("class", "class_name") if key in facts), None)
    text: object = facts.get("label", facts.get("cls"))
    if "cls" in members:
        text = content(members["cls"]).decode("ascii", "replace").strip()
    try:
        label = int(str(text))
        if label < 0:
            raise ValueError
    except ValueError as error:
        raise DataError(
            f"{where}.cls",
            f"label {text!r} is not a class index" if text is not None else "has no label",
            "a sample needs a cls member with a number from 0",
        ) from error
    return label, str(name) if name is not None else None


def class_names(
    scanned: dict[str, ScannedShard], given: tuple[str, ...] | None, where: str
) -> tuple[str, ...]:
    """Return the class names: as given, as the samples say, or numbered."""
    highest = max(int(result.rows["label"].max()) for result in scanned.values())
    if given is not None:
        if highest >= len(given):
            raise DataError(
                where,
                f"label {highest} is out of range, {len(given)} classes are named",
                "name all classes with --classes, or mend the labels",
            )
        return given
    names: dict[int, str] = {}
    for result in scanned.values():
        names |= result.names
    size = max(2, int(np.ceil(np.log10(highest + 1)))) if highest else 2
    return tuple(names.get(label, f"class_{label:0{size}d}") for label in range(highest + 1))


def _number(word: str, count: int) -> tuple[str, ...]:
    return tuple(f"{word}_{place + 1}" for place in range(count))
