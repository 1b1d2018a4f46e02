"""Validate the class names of a dataset.

Only names are checked. Names that differ only in Unicode form are the same name, stored in NFC.
"""

import logging
import unicodedata
from collections.abc import Mapping, Sequence

from rsdl.core.errors import DataError
from rsdl.data.manifest import Split
from rsdl.raster.vectors import EMPTY

log = logging.getLogger(__name__)

SPLIT_WORDS = frozenset(
    {"train", "training", "val", "valid", "validation", "test", "testing"}
    | {"holdout", "hold-out", "hold_out"}
)


def plain_name(name: str) -> str:
    """Return ``name`` in NFC, the Unicode form in which names are compared and stored."""
    return unicodedata.normalize("NFC", name)


def check_names(names: Sequence[str], where: str) -> None:
    """Raise a ``DataError`` if a class name is empty, a split's, or nearly equal to another."""
    seen: dict[str, str] = {}
    for name in names:
        folded = " ".join(plain_name(name).casefold().split())
        if folded in EMPTY:
            raise DataError(where, f'"{name}" is no name of a class', "name the class")
        if folded in SPLIT_WORDS:
            raise DataError(
                where,
                f'"{name}" would be a class, but is the name of a split',
                "keep only folders train, val and test beside each other, or rename the class",
            )
        if folded in seen:
            raise DataError(
                where,
                f'the classes "{seen[folded]}" and "{name}" differ only in case, spaces or '
                "Unicode form",
                "merge or rename them",
            )
        seen[folded] = name


def check_table(names: Sequence[str], where: str, least: int = 2) -> None:
    """Raise a ``DataError`` if :func:`check_names` does, or classes are fewer than ``least``."""
    check_names(names, where)
    if len(names) < least:
        raise DataError(
            where,
            f'has one class, "{names[0]}": there is nothing to tell apart',
            "name the folder, field or values that hold the classes",
        )


def warn_of_absent(names: Sequence[str], splits: Mapping[str, Split], where: str) -> None:
    """Log a warning for each split with the classes that have no sample in it."""
    if "train" not in splits:
        log.warning("%s: has no train split: nothing can be trained on it", where)
    for split, held in splits.items():
        absent = [name for name, count in zip(names, held.class_counts, strict=True) if not count]
        if absent:
            log.warning("%s: %s has no sample of %s", where, split, ", ".join(absent))
