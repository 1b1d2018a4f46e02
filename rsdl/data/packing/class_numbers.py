"""Build the class table from the numbers and names in WebDataset shards."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsdl.core.errors import DataError


class Named(NamedTuple):
    """The name of a class, and the first sample that uses it."""

    name: str
    where: str


def note_name(names: dict[int, Named], label: int, name: str, where: str) -> None:
    """Record the name of a class number in ``names``.

    Args:
        names: Known names by number.
        label: The class number.
        name: The class name.
        where: The sample with this number and name.

    Raises:
        DataError: If the number already has another name, or the name another number.
    """
    remedy = "mend the labels, or name all classes with --classes"
    known = names.setdefault(label, Named(name, where))
    if known.name != name:
        raise DataError(
            where, f'class {label} is "{name}" here and "{known.name}" in {known.where}', remedy
        )
    other = next((n for n, known in names.items() if known.name == name and n != label), None)
    if other is not None:
        raise DataError(
            where,
            f'"{name}" is class {label} here and class {other} in {names[other].where}',
            remedy,
        )


def class_names(
    scanned: Mapping[str, tuple[NDArray[np.int32], dict[int, Named]]],
    given: tuple[str, ...] | None,
    where: str,
) -> tuple[str, ...]:
    """Return the class names: the given ones, else those in the samples, else numbered ones."""
    highest = max(int(labels.max()) for labels, _ in scanned.values())
    if given is not None:
        if highest >= len(given):
            raise DataError(
                where,
                f"label {highest} is out of range, {len(given)} classes are named",
                "name all classes with --classes, or mend the labels",
            )
        return given
    names: dict[int, Named] = {}
    for _, found in scanned.values():
        for label, (name, sample) in found.items():
            note_name(names, label, name, sample)
    seen = np.unique(np.concatenate([labels for labels, _ in scanned.values()]))
    if len(seen) <= highest:
        absent = next(label for label in range(highest + 1) if label not in seen)
        raise DataError(
            where,
            f"no sample has label {absent}, though labels go from {seen[0]} to {highest}",
            "count classes from 0, or name all of them with --classes",
        )
    size = max(2, int(np.ceil(np.log10(highest + 1)))) if highest else 2
    return tuple(
        names[label].name if label in names else f"class_{label:0{size}d}"
        for label in range(highest + 1)
    )
