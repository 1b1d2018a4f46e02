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
        StorageError: If the URL is empty, its scheme has no store or its folder cannot be meant.
    """
    if not url:
        raise StorageError("URL", "is empty", "name a folder")
    if "://" not in url:
        return LocalStore(_expand_home(url))
    parts = urlsplit(url)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path:
            # file://data/ucm would mean /ucm on the host "data".
            raise StorageError(url, "names a host, not a folder", "write file:///folder")
        return LocalStore(Path(unquote(parts.path)))
    raise StorageError(url, f'no store for "{parts.scheme}://"', "use a local folder")


def _expand_home(url: str) -> Path:
    try:
        return Path(url).expanduser()
    except RuntimeError as error:
        raise StorageError(url, "no such home folder", "write the whole path") from error


def join(url: str, *names: str) -> str:
    """Return ``url`` with path parts appended."""
    return (url if url.endswith("/") else url + "/") + "/".join(names)
