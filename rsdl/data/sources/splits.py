"""Draw train, val and test from listed images, and divide each split into shards.

Everything here is a pure function of the seed and the relative paths, so two machines with the same
tree agree on every sample without communication.
"""

import logging
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from rsdl.core.errors import ConfigError, DataError
from rsdl.core.rng import key_of, text_keys
from rsdl.data.class_table import plain_name
from rsdl.data.manifest import INDEX_COLUMNS
from rsdl.data.sample import SPLITS
from rsdl.data.sources.listing import ImageFile, Tree
from rsdl.data.sources.split_files import OPTION, SplitFile, assign_listed
from rsdl.raster.grouped_split import GROUPED_RULE, deal_groups

log = logging.getLogger(__name__)
Fractions = tuple[float, float, float]

# Tar overhead of one sample: three headers, two small members, and padding to whole blocks.
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

    Val and test are rounded and train takes the rest; if there are enough samples, every split with
    a share gets at least one.
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
    """Return ``files`` with a split for each, drawn per class as a function of their paths."""
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


def assign_splits(
    tree: Tree,
    fractions: Fractions,
    seed: int,
    group_by: str | None,
    lists: Mapping[str, SplitFile] | None = None,
) -> tuple[Sequence[ImageFile], dict[str, Any]]:
    """Return the images with a split for each, class by class, and the rule used.

    Args:
        tree: The images.
        fractions: Shares of train, val and test, used if the tree has no split folders.
        seed: Seed of the draw.
        group_by: A regular expression for the scene of an image in its path below the class folder;
            all images of a scene go to one split. ``None`` draws image by image.
        lists: Lists of the images of each split, instead of a draw.

    Raises:
        ConfigError: If ``group_by`` does not match every path, or finds too few scenes.
        DataError: If split folders hold images of one scene.
    """
    rule: dict[str, Any] = {"seed": seed}
    if lists is not None:
        if group_by is not None:
            raise ConfigError("--group-by", f"does not go with {OPTION}", "leave one out")
        files, listed = assign_listed(tree, lists)
        return files, rule | listed
    if not tree.has_splits:
        rule["fractions"] = list(fractions)
    if group_by is not None:
        rule["group_by"] = group_by
        groups = _find_groups(tree, group_by)
        rule |= {"groups": len(set(groups)), INDEX_COLUMNS: ["group"]}
        if rule["groups"] == len(groups):
            log.warning(
                "%s: --group-by finds a scene of its own for each of %d images: it keeps nothing "
                "together", tree.root, len(groups),
            )  # fmt: skip
        found = [file._replace(group=group) for file, group in zip(tree.files, groups, strict=True)]
        if not tree.has_splits:
            files = _draw_grouped(found, groups, fractions, seed)
            return files, rule | {"split_rule": GROUPED_RULE}
        _check_groups(found, groups)
        return found, rule | {"split_rule": "split folders"}
    if tree.has_splits:
        return tree.files, rule | {"split_rule": "split folders"}
    return draw_splits(tree.files, fractions, seed), rule | {"split_rule": "stratified by class"}


def _find_groups(tree: Tree, pattern: str) -> list[str]:
    """Return the group of each image: the match of ``pattern`` in its path below the class folder.

    The class folder is excluded, since tiles of one scene may be of several classes.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError("--group-by", f'"{pattern}" is no regular expression: {error}') from error
    groups = []
    for file in tree.files:
        path = plain_name(file.path.split("/", 2 if tree.has_splits else 1)[-1])
        found = compiled.search(path)
        if found is None:
            raise ConfigError(
                "--group-by",
                f'"{pattern}" is not found in "{path}" ({tree.root / file.path})',
                "write one that finds the scene of every image below its class folder",
            )
        groups.append(name_group(found))
    return groups


def name_group(found: re.Match[str]) -> str:
    """Return the scene that a match of ``group_by`` names."""
    return "/".join(part or "" for part in found.groups()) or found[0]


def _check_groups(files: Sequence[ImageFile], groups: Sequence[str]) -> None:
    """Raise if split folders divide a group."""
    first_of: dict[str, ImageFile] = {}
    for file, group in zip(files, groups, strict=True):
        if (first := first_of.setdefault(group, file)).split != file.split:
            raise DataError(
                file.path,
                f'is of "{group}" (--group-by), as is {first.path} of another split',
                "move one of them, or pack without folders of splits",
            )


def _draw_grouped(
    files: Sequence[ImageFile], groups: Sequence[str], fractions: Fractions, seed: int
) -> list[ImageFile]:
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for file, group in zip(files, groups, strict=True):
        counts[group][file.label] += 1
    shares = sum(fraction > 0 for fraction in fractions)
    if len(counts) < shares:
        raise ConfigError(
            "--group-by",
            f"finds {len(counts)} scene{'s' if len(counts) > 1 else ''} "
            f"({', '.join(sorted(counts))}) for {shares} splits",
            "write one that tells scenes apart, or name fewer splits with --split",
        )
    splits = split_groups(counts, fractions, seed)
    return [file._replace(split=splits[group]) for file, group in zip(files, groups, strict=True)]


def order_splits(files: Iterable[ImageFile], seed: int) -> dict[str, list[ImageFile]]:
    """Return the files of each split, shuffled across classes."""
    splits: dict[str, list[ImageFile]] = {split: [] for split in SPLITS}
    for file in files:
        splits[str(file.split)].append(file)
    return {split: _mix(members, "order", seed) for split, members in splits.items()}


def _mix(files: list[ImageFile], purpose: str, seed: int) -> list[ImageFile]:
    """Return ``files`` in a random order that is a function of their paths."""
    keys = text_keys([file.path for file in files], purpose, seed)
    return [file for _, _, file in sorted(zip(keys, range(len(files)), files, strict=True))]


def deal(files: list[ImageFile], shard_bytes: int) -> Iterator[list[ImageFile]]:
    """Yield consecutive files of about ``shard_bytes`` in total, as evenly as sizes allow."""
    total = sum(file.size + TAR_BYTES for file in files)
    num_shards = max(1, round(total / shard_bytes))
    offset = 0
    numbered: list[tuple[int, ImageFile]] = []
    for file in files:
        numbered.append((offset * num_shards // total, file))
        offset += file.size + TAR_BYTES
    for _, group in groupby(numbered, key=lambda pair: pair[0]):
        yield [file for _, file in group]


def split_groups(
    counts: Mapping[str, Mapping[int, int]], fractions: Sequence[float], seed: int
) -> dict[str, str]:
    """Return the split of each group by name.

    Args:
        counts: Samples of each class in each group, by name and class index.
        fractions: Share of each of ``SPLITS``.
        seed: Seed of the split.
    """
    names = sorted(counts)
    table = np.zeros((len(names), 1 + max(max(group) for group in counts.values())), np.int64)
    for row, name in enumerate(names):
        for label, count in counts[name].items():
            table[row, label] = count
    keys = [key_of("groups", seed, name) for name in names]
    splits = deal_groups(table, keys, fractions)
    return {name: SPLITS[split] for name, split in zip(names, splits.tolist(), strict=True)}
