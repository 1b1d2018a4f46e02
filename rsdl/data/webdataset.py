"""Group the members of a tar into samples, and find the image and label of each.

The rules are those of the stock ``webdataset`` library, so that both read the same samples.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable

from rsdl.core.errors import CorruptSampleError, DataError
from rsdl.data.kinds import SUFFIXES
from rsdl.data.tar import Member

# A larger number is treated as an error: every class needs a name, a weight and a row of the
# confusion matrix.
MAX_CLASSES = 1_000_000
_UNTOLD = object()
WHOLE = re.compile(r"(?<=\d)\.0+$")  # 1.0 is 1


def group_members(
    members: Iterable[Member], where: str, left_out: Counter[str] | None = None
) -> dict[str, dict[str, Member]]:
    """Return the members of each sample by extension, in the order of the tar.

    Files without a name or an extension, hidden ones and ``__meta__`` belong to no sample.

    Args:
        members: The members of a tar.
        where: Name of the tar for errors.
        left_out: Counts members that belong to no sample.

    Raises:
        DataError: If a sample has two members with the same extension.
    """
    samples: dict[str, dict[str, Member]] = {}
    for member in members:
        if not _belongs(member):
            if left_out is not None:
                left_out["files of no sample"] += 1
            continue
        sample = samples.setdefault(member.key, {})
        if member.extension in sample:
            raise DataError(
                f"{where}:{member.key}",
                f"has two members .{member.extension}",
                "write the shard anew, with a key for each sample",
            )
        sample[member.extension] = member
    return samples


def _belongs(member: Member) -> bool:
    base = member.key.rpartition("/")[2]
    meta = any(part.startswith("__") and part.endswith("__") for part in member.key.split("/"))
    return bool(base and member.extension) and not meta


def kind_of(extension: str) -> str | None:
    """Return the image format for an extension (``jpg``, ...), or ``None`` if it is no image."""
    return SUFFIXES.get("." + extension.rpartition(".")[2])


def find_image(members: dict[str, Member], where: str) -> tuple[Member, str]:
    """Return the image member of a sample and its format."""
    # Fewest dots first: "x.jpg" before "x.mask.png".
    for extension, member in sorted(members.items(), key=lambda item: item[0].count(".")):
        kind = kind_of(extension)
        if kind is not None:
            return member, kind
    found = ", ".join(members)
    raise CorruptSampleError(
        where, f"has no image, only {found}", "images are jpg, png, tif or npy"
    )


def find_label(
    members: dict[str, Member], content: Callable[[Member], bytes], where: str
) -> tuple[int, str | None]:
    """Return the class index of a sample, and the class name if its ``json`` has one."""
    page: object = {}
    if "json" in members:
        try:
            page = json.loads(content(members["json"]))
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}.json", "is not JSON") from error
    facts = page if isinstance(page, dict) else {}
    told = next((facts[key] for key in ("class", "class_name") if key in facts), _UNTOLD)
    text: object = facts.get("label", facts.get("cls"))
    if "cls" in members:
        text = content(members["cls"]).decode("ascii", "replace").strip()
    try:
        label = int(WHOLE.sub("", str(text)))
        if not 0 <= label < MAX_CLASSES:
            raise ValueError
    except ValueError as error:
        raise CorruptSampleError(
            f"{where}.cls",
            f"label {text!r} is not a class index" if text is not None else "has no label",
            "a sample needs a cls member with a number from 0",
        ) from error
    if told is _UNTOLD:
        return label, None
    # null and NaN become text, which the check of class names rejects.
    return label, told if isinstance(told, str) else json.dumps(told)
