"""Files of published data sets, recognized by the end of their paths below any folder."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rsdl.core.errors import DataError


class Match(NamedTuple):
    """A file that a rule finds.

    Attributes:
        groups: The groups of the rule's regular expression.
        top: Path of the folder above what the rule describes, ``""`` or with ``/`` at its end.
        path: Path of the file.
        size: Size in bytes.
        modified_ns: Modification time in nanoseconds.
    """

    groups: tuple[str, ...]
    top: str
    path: str
    size: int
    modified_ns: int


def match_paths(
    pattern: str, files: Sequence[tuple[str, int, int]], folder: Path
) -> dict[tuple[str, ...], Match]:
    """Return the files whose path ends as a regular expression says, by its groups, case ignored.

    Args:
        pattern: The regular expression.
        files: Path below the folder, size and modification time of each file.
        folder: The folder, for errors.

    Raises:
        DataError: If two files have the same groups.
    """
    compiled = re.compile(f"((?:.*/)?){pattern}", re.IGNORECASE)
    matches: dict[tuple[str, ...], Match] = {}
    for path, size, modified_ns in files:
        if (match := compiled.fullmatch(path)) is None:
            continue
        top, *groups = match.groups()
        key = tuple(group.casefold() for group in groups)
        if key in matches:
            problem = f'"{matches[key].path}" and "{path}" are of the same image'
            raise DataError(str(folder), problem, "remove one of them, or name a folder with one")
        matches[key] = Match(tuple(groups), top, path, size, modified_ns)
    return matches
