"""Open the store that a URL names."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from rsdl.core.errors import StorageError
from rsdl.storage.cache.config import CacheConfig
from rsdl.storage.local import LocalStore
from rsdl.storage.s3.endpoint import AWS, StorageConfig
from rsdl.storage.store import Store

BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")
DEFAULT_CACHE = CacheConfig()


def connect(
    url: str, cache: CacheConfig | None = DEFAULT_CACHE, storage: StorageConfig = AWS
) -> Store:
    """Return the store behind a URL.

    Args:
        url: A folder, absolute or relative, with ``~`` for home; ``file:///folder``; or
            ``s3://bucket/prefix``.
        cache: The node's cache for remote data; ``None`` caches nothing.
        storage: How to reach the service behind ``s3://``.

    Raises:
        StorageError: If the URL is empty or invalid, or its scheme is unsupported.
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
    if parts.scheme == "s3":
        # Imported here, so that local work does not wait for boto3.
        from rsdl.storage.s3.store import S3Store

        return S3Store(*_split_bucket(url), cache, storage)
    raise StorageError(url, f'no store for "{parts.scheme}://"', "use a folder or s3://")


def _split_bucket(url: str) -> tuple[str, str]:
    """Return bucket and prefix; error messages omit parts of the URL that may be secret."""
    parts = urlsplit(url)
    remedy = "write s3://bucket/prefix; keys come from AWS_ACCESS_KEY_ID or AWS_PROFILE"
    if "@" in parts.netloc:
        raise StorageError(f"s3://{parts.netloc.rpartition('@')[2]}", "has keys before @", remedy)
    if parts.query or parts.fragment:
        raise StorageError(f"s3://{parts.netloc}", "has a part behind ? or #", remedy)
    if not BUCKET.fullmatch(parts.netloc):
        raise StorageError(url, f'"{parts.netloc}" is no bucket name', remedy)
    return parts.netloc, parts.path.strip("/")


def _expand_home(url: str) -> Path:
    try:
        return Path(url).expanduser()
    except RuntimeError as error:
        raise StorageError(url, "no such home folder", "write the whole path") from error


def join(url: str, *names: str) -> str:
    """Return ``url`` with path parts appended."""
    return (url if url.endswith("/") else url + "/") + "/".join(names)
