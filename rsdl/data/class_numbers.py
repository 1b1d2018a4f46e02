"""From the numbers and names in foreign shards to a table of classes."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from rsdl.core.errors import DataError
from rsdl.storage.connect import join


def note_name(names: dict[int, str], label: int, name: str, where: str) -> None:
    """Note the name of a number.

    Raises:
        DataError: If the number has another name already, or the name another number.
    """
    if (known := names.setdefault(label, name)) != name:
        raise DataError(
            where,
            f'class {label} is "{name}" here and "{known}" before',
            "mend the labels, or name all classes with --classes",
        )
    other = next((n for n, known in names.items() if known == name and n != label), None)
    if other is not None:
        raise DataError(
            where,
            f'"{name}" is class {label} here and class {other} before',
            "mend the labels, or name all classes with --classes",
        )


def class_names(
    scanned: Mapping[str, tuple[NDArray[np.int32], dict[int, str]]],
    given: tuple[str, ...] | None,
    where: str,
) -> tuple[str, ...]:
    """Return the class names: as given, as the samples say, or numbered."""
    highest = max(int(labels.max()) for labels, _ in scanned.values())
    if given is not None:
        if highest >= len(given):
            raise DataError(
                where,
                f"label {highest} is out of range, {len(given)} classes are named",
                "name all classes with --classes, or mend the labels",
            )
        return given
    names: dict[int, str] = {}
    for shard, (_, found) in scanned.items():
        for label, name in found.items():
            note_name(names, label, name, join(where, shard))
    seen = np.unique(np.concatenate([labels for labels, _ in scanned.values()]))
    if len(seen) <= highest:
        absent = next(label for label in range(highest + 1) if label not in seen)
        raise DataError(
            where,
            f"no sample has label {absent}, though labels go from {seen[0]} to {highest}",
            "count classes from 0, or name all of them with --classes",
        )
    size = max(2, int(np.ceil(np.log10(highest + 1)))) if highest else 2
    return tuple(names.get(label, f"class_{label:0{size}d}") for label in range(highest + 1))
