"""Drawing train, val and test from listed images, and dealing each split into shards.

Everything here is a pure function of the seed and the relative paths, so that two machines with the
same tree agree on every sample without a word between them.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import groupby

from rsdl.core.errors import ConfigError
from rsdl.data.random import text_keys
from rsdl.data.sample import SPLITS
from rsdl.data.sources.listing import ImageFile

Fractions = tuple[float, float, float]

# What a tar adds to an image: three headers, two small members, and padding to whole blocks.
TAR_BYTES = 2816


def check_fractions(fractions: tuple[float, ...]) -> None:
    """Raise a ``ConfigError`` unless ``fractions`` are three shares that add up to 1."""
    shares = len(fractions) == 3 and all(0 <= fraction <= 1 for fraction in fractions)
    if not shares or abs(sum(fractions) - 1) > 1e-6:
        shown = ", ".join(f"{fraction:g}" for fraction in fractions)
        raise ConfigError(
            "fractions", f"({shown}) are not three shares that add up to 1", "try 0.8, 0.1, 0.1"
        )


def split_counts(num: int, fractions: Fractions) -> tuple[int, int, int]:
    """Return how many of ``num`` samples go to train, val and test.

    Val and test are rounded and train takes the rest; where there are enough samples, every split
    with a share gets one.
    """
    shares = sum(fraction > 0 for fraction in fractions)
    counts = [math.floor(num * fraction + 0.5) for fraction in fractions]
    if num >= shares:
        counts = [max(n, 1) if share else 0 for n, share in zip(counts, fractions, strict=True)]
    while (over := sum(counts) - num) != 0:
        step = 1 if over < 0 else -1
        adjusts_train = fractions[0] > 0 and counts[0] + step >= 1
        index = 0 if adjusts_train else max((1, 2), key=counts.__getitem__)
        counts[index] += step
    return counts[0], counts[1], counts[2]


def draw_splits(files: Iterable[ImageFile], fractions: Fractions, seed: int) -> list[ImageFile]:
    """Return ``files`` with a split for each, drawn class by class as a function of their paths."""
    by_class: dict[int, list[ImageFile]] = defaultdict(list)
    for file in files:
        by_class[file.label].append(file)
    drawn: list[ImageFile] = []
    for members in by_class.values():
        members = _mix(members, "split", seed)
        _, val, test = split_counts(len(members), fractions)
        names = ["test"] * test + ["val"] * val + ["train"] * (len(members) - val - test)
        drawn += (file._replace(split=name) for file, name in zip(members, names, strict=True))
    return drawn


def order_splits(files: Iterable[ImageFile], seed: int) -> dict[str, list[ImageFile]]:
    """Return the files of each split in an order that mixes the classes."""
    splits: dict[str, list[ImageFile]] = {split: [] for split in SPLITS}
    for file in files:
        splits[str(file.split)].append(file)
    return {split: _mix(members, "order", seed) for split, members in splits.items()}


def _mix(files: list[ImageFile], purpose: str, seed: int) -> list[ImageFile]:
    """Return ``files`` in a random order that is a function of their paths."""
    keys = text_keys([file.path for file in files], purpose, seed)
    return [file for _, _, file in sorted(zip(keys, range(len(files)), files, strict=True))]


def deal(files: list[ImageFile], shard_bytes: int) -> Iterator[list[ImageFile]]:
    """Yield runs of files of about ``shard_bytes`` each, as even as their sizes allow."""
    total = sum(file.size + TAR_BYTES for file in files)
    num_shards = max(1, round(total / shard_bytes))
    offset = 0
    numbered: list[tuple[int, ImageFile]] = []
    for file in files:
        numbered.append((offset * num_shards // total, file))
        offset += file.size + TAR_BYTES
    for _, group in groupby(numbered, key=lambda pair: pair[0]):
        yield [file for _, file in group]
