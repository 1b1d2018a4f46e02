"""What a newer release has written: named as such, never read in part."""

from collections.abc import Iterable

from pydantic import ValidationError

from rsdl.core.errors import DataError

UPDATE = "update rsdl"


def newer_error(error: ValidationError, where: str, *, reads: int) -> DataError | None:
    """Return the refusal of a page that a newer release has written; ``None`` where none has.

    Args:
        error: What reading the page has led to.
        where: What to call the page.
        reads: The format that this release reads.
    """
    found = error.errors(include_url=False)
    for one in found:
        given = one.get("input")
        if one["loc"] == ("format",) and isinstance(given, int) and given > reads:
            return newer_format(where, given, reads=reads)
    extra = [".".join(map(str, one["loc"])) for one in found if one["type"] == "extra_forbidden"]
    return unknown_names(where, "field", extra) if extra else None


def newer_format(where: str, given: int, *, reads: int) -> DataError:
    """Return the refusal of a later format."""
    return DataError(where, f"made by a newer rsdl: format {given}, this one reads {reads}", UPDATE)


def unknown_names(where: str, kind: str, names: Iterable[str]) -> DataError:
    """Return the refusal of fields or columns that this release does not know."""
    listed = ", ".join(names)
    return DataError(where, f"made by a newer rsdl: unknown {kind} {listed}", UPDATE)
