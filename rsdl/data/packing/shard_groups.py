"""Assign WebDataset tars to splits."""

import fnmatch
import re
from collections import Counter
from collections.abc import Sequence

from braceexpand import braceexpand

from rsdl.core.errors import DataError
from rsdl.storage.connect import join
from rsdl.storage.store import Store

COMPRESSED = re.compile(r".*\.(tar\.(gz|bz2|xz|zst|lz4|lzma|z)|tgz|tbz2?|txz|tzst)", re.IGNORECASE)
OURS = re.compile(r"manifest\.json|index-\w+\.npy|source-stamp\.json")
SPLIT_WORDS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "dev": "val", "test": "test", "testing": "test", "eval": "test",
}  # fmt: skip


def group_shards(
    store: Store, globs: Sequence[str], left_out: Counter[str]
) -> dict[str, list[str]]:
    """Return the tars of each split, sorted; by ``SPLIT=GLOB``, by name, or all as train.

    Args:
        store: The store of the tars.
        globs: ``SPLIT=GLOB`` patterns; if empty, splits are inferred from the names.
        left_out: Counts files that are not used.

    Raises:
        DataError: If there are no tars, one is compressed, or a glob matches none, or two splits
            match the same tar.
    """
    tars = _list_tars(store, left_out)
    if not tars:
        raise DataError(store.url, "holds no .tar", "name the folder of the shards")
    groups: dict[str, list[str]] = {}
    for text in globs:
        split, equals, pattern = text.partition("=")
        if not equals or split not in ("train", "val", "test"):
            raise DataError("--split", f'"{text}" is not SPLIT=GLOB', 'write "train=part-*.tar"')
        found = _match(tars, pattern)
        for name in found:
            taken = next((other for other, names in groups.items() if name in names), split)
            if taken != split:
                raise DataError(
                    "--split", f"{name} would be in {taken} and in {split}", "narrow the patterns"
                )
        groups[split] = list(dict.fromkeys([*groups.get(split, []), *found]))
    if globs:
        if absent := len(tars) - sum(map(len, groups.values())):
            left_out["tars that no --split names"] += absent
        return groups
    for name in tars:
        words = re.split(r"[^a-z]+", name.lower())
        split = next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), "train")
        groups.setdefault(split, []).append(name)
    return groups


def _match(tars: Sequence[str], pattern: str) -> list[str]:
    """Return the tars of a pattern; each expansion of ``{000..099}`` or ``{a,b}`` must match."""
    found = []
    for each in braceexpand(pattern):
        matches = fnmatch.filter(tars, each)
        if not matches:
            meant = f"{each}, of {pattern}" if each != pattern else pattern
            raise DataError("--split", f'no tar matches "{meant}"', f"there is {tars[0]}")
        found += matches
    return found


def _list_tars(store: Store, left_out: Counter[str]) -> list[str]:
    """Return the names of the tars; raise for a compressed one, and ignore hidden files."""
    tars = []
    for entry in store.list():
        base = entry.name.rpartition("/")[2]
        if any(part.startswith(".") for part in entry.name.split("/")):
            left_out["hidden"] += 1
        elif base.lower().endswith(".tar"):
            tars.append(entry.name)
        elif COMPRESSED.fullmatch(base):
            raise DataError(
                join(store.url, entry.name),
                "is a compressed shard, of which no part can be read alone",
                'unpack it, with "gunzip" or the like, or move it away',
            )
        elif not OURS.fullmatch(entry.name):
            _, dot, suffix = base.rpartition(".")
            left_out[f"*.{suffix.lower()}" if dot else "without a suffix"] += 1
    return tars
