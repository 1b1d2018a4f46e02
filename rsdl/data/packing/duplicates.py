"""Find byte-identical images in a dataset.

A copy in both train and test inflates the test score, and a copy in two classes has a wrong label.
Hashing every image completely would slow down packing JPEGs by up to a fifth, so each image gets a
cheap sketch when it is stored, and images with equal sketches are compared by SHA-256 at the end.
"""

import hashlib
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsdl.data.index import Rows
from rsdl.storage.store import Store

SKETCH_BYTES = 256
MAX_NAMED = 100  # groups of copies listed in the manifest
MAX_COPIES = 10  # copies listed of one group
Sketches = NDArray[np.uint64]


def sketch(image: bytes) -> int:
    """Return a 64-bit sketch of an image: its length, and a CRC of evenly spaced bytes."""
    return len(image) << 32 | zlib.crc32(image[:: len(image) // SKETCH_BYTES + 1])


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Groups of equal images, each image as ``split/key``.

    Attributes:
        over_splits: Groups whose images are in more than one split.
        over_classes: Groups whose images have more than one class.
    """

    over_splits: tuple[tuple[str, ...], ...]
    over_classes: tuple[tuple[str, ...], ...]


class Part(NamedTuple):
    """One shard of a dataset.

    Attributes:
        split: The shard's split.
        name: The shard's name in the store.
        rows: Index rows of its samples, ``[N]``.
        sketches: Sketches of their images, ``[N]``.
    """

    split: str
    name: str
    rows: Rows
    sketches: Sketches


def describe_duplicates(store: Store, parts: Sequence[Part]) -> dict[str, Any]:
    """Return the provenance entry about equal images.

    Args:
        store: The store of the shards.
        parts: All shards, at least one.

    Returns:
        ``duplicates`` with the number of groups and of their images, and the names of the first;
        an empty dict if there are none.
    """
    found = find_duplicates(store, parts)
    said = {
        f"over_{places}": {
            "groups": len(groups),
            "copies": sum(map(len, groups)),
            "first": [list(group[:MAX_COPIES]) for group in groups[:MAX_NAMED]],
        }
        for places, groups in (("splits", found.over_splits), ("classes", found.over_classes))
        if groups
    }
    return {"duplicates": said} if said else {}


def say_duplicates(provenance: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for images in several splits, and one for images in several classes."""
    for places in ("splits", "classes"):
        try:
            found = provenance["duplicates"][f"over_{places}"]
            count, copies, (one, other, *_) = found["groups"], found["copies"], found["first"][0]
        except (KeyError, TypeError, ValueError, IndexError):
            continue  # no duplicates, or the manifest was edited by hand
        yield (
            f"in several {places}, byte for byte: {count} image{'' if count == 1 else 's'} in "
            f"{copies} copies, the first {one} and {other}; remove them, unless they are tiles of "
            "one value (manifest.json names some)"
        )


def find_duplicates(store: Store, parts: Sequence[Part]) -> Duplicates:
    """Return the equal images that are in several splits or classes.

    Args:
        store: The store of the shards; only images that share a sketch with another are read.
        parts: All shards, at least one.
    """
    numbers = {split: number for number, split in enumerate(dict.fromkeys(p.split for p in parts))}
    suspects = _find_suspects(
        np.concatenate([part.sketches for part in parts]),
        np.concatenate([np.full(len(part.rows), numbers[part.split]) for part in parts]),
        np.concatenate([part.rows["label"] for part in parts]),
    )
    groups: dict[bytes, list[tuple[str, int, str]]] = defaultdict(list)
    end = 0
    for part in parts:
        first, end = end, end + len(part.rows)
        mine = suspects[np.searchsorted(suspects, first) : np.searchsorted(suspects, end)] - first
        for row, digest in _hash(store, part, mine):
            key = row["key"].decode(errors="replace")
            groups[digest].append((part.split, int(row["label"]), f"{part.split}/{key}"))
    return Duplicates(*(_name_those_that_differ(groups.values(), place) for place in (0, 1)))


def _name_those_that_differ(
    groups: Iterable[list[tuple[str, int, str]]], place: int
) -> tuple[tuple[str, ...], ...]:
    """Return the names of groups whose members differ at ``place``, two differing ones first."""
    named = []
    for group in groups:
        other = next((member for member in group if member[place] != group[0][place]), None)
        if other is not None:
            rest = (member for member in group[1:] if member is not other)
            named.append(tuple(name for *_, name in (group[0], other, *rest)))
    return tuple(named)


def _find_suspects(
    sketches: Sketches, splits: NDArray[np.int64], labels: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Return the samples, ascending, that share a sketch with one of another split or class."""
    order = np.argsort(sketches, kind="stable")
    sketches, splits, labels = sketches[order], splits[order], labels[order]
    starts = np.flatnonzero(np.r_[True, sketches[1:] != sketches[:-1]])[: len(sketches)]
    if len(starts) == len(sketches):
        return np.empty(0, np.int64)
    differs = np.zeros(len(starts), bool)
    for values in (splits, labels):
        differs |= np.minimum.reduceat(values, starts) != np.maximum.reduceat(values, starts)
    sizes = np.diff(np.r_[starts, len(sketches)])
    return np.sort(order[np.repeat(differs, sizes)])


def _hash(store: Store, part: Part, samples: NDArray[np.int64]) -> Iterator[tuple[np.void, bytes]]:
    """Yield the row of each sample and the SHA-256 of its image."""
    if not len(samples):
        return
    with closing(store.open(part.name)) as blob:
        for row in part.rows[samples]:
            image = blob.read(int(row["offset"]), int(row["length"]))
            yield row, hashlib.sha256(image).digest()
