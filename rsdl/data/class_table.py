"""What names a data set's classes may have: a table that breaks a rule is refused.

Only names are looked at. Names that differ in Unicode form alone are one name, in NFC.
"""

import unicodedata
from collections.abc import Sequence

from rsdl.core.errors import DataError

EMPTY = frozenset({"", "nan", "none", "null"})
SPLIT_WORDS = frozenset(
    {"train", "training", "val", "valid", "validation", "test", "testing"}
    | {"holdout", "hold-out", "hold_out"}
)


def plain_name(name: str) -> str:
    """Return ``name`` in NFC, the Unicode form in which names are compared and stored."""
    return unicodedata.normalize("NFC", name)


def check_names(names: Sequence[str], where: str) -> None:
    """Raise a ``DataError`` if a class has no real name, a split's, or nearly that of another."""
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
