"""Group the members of a tar into samples, and find the image of each.

The rules are those of the stock ``webdataset`` library, so that both read the same samples.
"""

from collections import Counter
from collections.abc import Iterable

from rsdl.core.errors import CorruptSampleError, DataError
from rsdl.data.kinds import SUFFIXES
from rsdl.data.tar import Member


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
