"""From a URL that a user types to the store that it means."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from rsdl.core.errors import StorageError
from rsdl.storage.local import LocalStore
from rsdl.storage.store import Store


def connect(url: str) -> Store:
    """Return the store behind a URL.

    Args:
        url: A folder, absolute or relative, with ``~`` for home; or ``file:///folder``.

    Raises:
        StorageError: If the URL is empty or its scheme has no store.
    """
    if not url:
        raise StorageError("URL", "is empty", "name a folder")
    if "://" not in url:
        return LocalStore(Path(url).expanduser())
    parts = urlsplit(url)
    if parts.scheme == "file":
        return LocalStore(Path(unquote(parts.path)))
    raise StorageError(url, f'no store for "{parts.scheme}://"', "use a local folder")


def join(url: str, *names: str) -> str:
    """Return ``url`` with path parts appended."""
    return "/".join((url.rstrip("/") or "/", *names))
