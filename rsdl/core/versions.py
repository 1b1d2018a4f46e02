"""Errors for files that a newer release has written; they are never read in part."""

from collections.abc import Iterable
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from rsdl.core.errors import DataError

UPDATE = "update rsdl"

Document = TypeVar("Document", bound=BaseModel)


def document_error(
    error: ValidationError, where: str, *, reads: int, what: str, whole: str, remedy: str
) -> DataError:
    """Return the error for a document that does not validate: a newer release's, or damaged.

    Args:
        error: The validation error of the document.
        where: The document's name, for the error.
        reads: The format version that this release reads.
        what: What the document is not, before the first wrong field; may be empty.
        whole: What to call the document where no field is wrong.
        remedy: What to do about a damaged one.
    """
    if (newer := newer_error(error, where, reads=reads)) is not None:
        return newer
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"])) or whole
    return DataError(where, f"{what}{field}: {first['msg']}", remedy)


def parse_document(
    kind: type[Document], data: bytes, where: str, *, reads: int, what: str, whole: str, remedy: str
) -> Document:
    """Return the document that JSON holds.

    Raises:
        DataError: If it does not validate; arguments and message are those of
            :func:`document_error`.
    """
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        raise document_error(
            error, where, reads=reads, what=what, whole=whole, remedy=remedy
        ) from error


def newer_error(error: ValidationError, where: str, *, reads: int) -> DataError | None:
    """Return the error for a document that a newer release wrote, or ``None`` if none did.

    Args:
        error: The validation error of the document.
        where: The document's name, for the error.
        reads: The format version that this release reads.
    """
    found = error.errors(include_url=False)
    for one in found:
        given = one.get("input")
        if one["loc"] == ("format",) and isinstance(given, int) and given > reads:
            return newer_format(where, given, reads=reads)
    extra = [".".join(map(str, one["loc"])) for one in found if one["type"] == "extra_forbidden"]
    return unknown_names(where, "field", extra) if extra else None


def newer_format(where: str, given: int, *, reads: int) -> DataError:
    """Return the error for a newer format version."""
    return DataError(where, f"made by a newer rsdl: format {given}, this one reads {reads}", UPDATE)


def unknown_names(where: str, kind: str, names: Iterable[str]) -> DataError:
    """Return the error for fields or columns that this release does not know."""
    listed = ", ".join(names)
    return DataError(where, f"made by a newer rsdl: unknown {kind} {listed}", UPDATE)
