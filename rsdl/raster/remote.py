"""Rasters at ``https://`` and ``s3://``, read by range: by GDAL, and their ends by our own clients.

GDAL reads pixels through /vsicurl and /vsis3, so that a window of a tiled file costs its tiles. Our
own clients list buckets, read headers and ends, and say what is wrong: GDAL's messages may quote
signed URLs. Both reach a bucket by the same settings.
"""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, overload
from urllib.parse import unquote, urlsplit

from rasterio._env import del_gdal_config, get_gdal_config, set_gdal_config

from rsdl.core.errors import StorageError
from rsdl.storage.connect import connect
from rsdl.storage.http import HttpBlob, hide_query
from rsdl.storage.store import Blob

SCHEMES = ("https", "http", "s3")
BLOCK_BYTES = 64 << 10
# How long GDAL bears with a server that fails or is silent, unless the user's environment says it.
PATIENCE = {
    "GDAL_HTTP_MAX_RETRY": "5",
    "GDAL_HTTP_RETRY_DELAY": "1",
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_LOW_SPEED_TIME": "30",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1",
}
# What names the certificate authorities that are trusted, for boto3, GDAL, curl and Python.
TRUSTED = ("AWS_CA_BUNDLE", "GDAL_CURL_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
_lock = threading.Lock()


@dataclass(frozen=True, slots=True, order=True, repr=False)
class RemoteFile:
    """A file on a server; shown without what may be a signature.

    Attributes:
        url: ``https://...`` or ``s3://bucket/key``.
    """

    url: str

    @property
    def scheme(self) -> str:
        """``https``, ``http`` or ``s3``."""
        return self.url.partition("://")[0]

    @property
    def path(self) -> str:
        """Host or bucket, and what follows, as a person would write it."""
        host_and_path = hide_query(self.url).partition("://")[2]
        return host_and_path if self.scheme == "s3" else unquote(host_and_path)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    def __str__(self) -> str:
        return hide_query(self.url)

    def __repr__(self) -> str:
        return f"RemoteFile({self})"


RasterFile = Path | RemoteFile


class RangedBytes:
    """The bytes of a remote file, read by range as they are sliced.

    Args:
        blob: The open file.
        size: Its size in bytes.
    """

    def __init__(self, blob: Blob, size: int) -> None:
        self._blob, self._size = blob, size
        self._blocks: dict[int, bytes] = {}

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, at: int, /) -> int: ...

    @overload
    def __getitem__(self, at: slice, /) -> bytes: ...

    def __getitem__(self, at: int | slice, /) -> int | bytes:
        if isinstance(at, int):
            return self[at : at + 1][0]
        start, stop, _ = at.indices(self._size)
        if stop - start > BLOCK_BYTES:
            return self._blob.read(start, stop - start)
        first, last = start // BLOCK_BYTES, max(start, stop - 1) // BLOCK_BYTES
        joined = b"".join(self._block(number) for number in range(first, last + 1))
        return joined[start - first * BLOCK_BYTES : stop - first * BLOCK_BYTES]

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            self._blocks[number] = self._blob.read(number * BLOCK_BYTES, BLOCK_BYTES)
        return self._blocks[number]


def is_remote(text: str) -> bool:
    """Return whether text is a URL of a server, not a path."""
    return text.partition("://")[0].lower() in SCHEMES and "://" in text


def parse_remote(url: str) -> RemoteFile:
    """Return the file that a URL names.

    Raises:
        StorageError: If the URL is none, or holds a password.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise StorageError(hide_query(url), "is no URL", "write https://host/path.tif") from error
    if parts.scheme != "s3" and "@" in parts.netloc:
        raise StorageError(hide_query(url), "holds a password", "write it without one")
    return RemoteFile(f"{parts.scheme}{url[len(parts.scheme) :]}")  # urlsplit lowers its case


def is_inside(file: RasterFile, folder: str) -> bool:
    """Return whether a file is ``folder`` or lies somewhere below it, both local or both remote."""
    if isinstance(file, RemoteFile):
        return file.url.startswith(folder.rstrip("/") + "/")
    return not is_remote(folder) and file.resolve().is_relative_to(Path(folder).resolve())


@contextmanager
def open_bytes(file: RasterFile) -> Iterator[bytes | mmap | RangedBytes]:
    """Yield the bytes of a file, of which only those that are sliced are read.

    Raises:
        StorageError: If a remote file cannot be read.
    """
    if isinstance(file, RemoteFile):
        blob, size = _open_blob(file)
        with closing(blob):
            yield RangedBytes(blob, size)
    elif not file.stat().st_size:
        yield b""  # cannot be mapped
    else:
        with file.open("rb") as stream, mmap(stream.fileno(), 0, access=ACCESS_READ) as data:
            yield data


def _open_blob(file: RemoteFile) -> tuple[Blob, int]:
    if file.scheme != "s3":
        http = HttpBlob(file.url)
        return http, http.size
    folder, _, name = file.url.rpartition("/")
    store = connect(folder, cache=None)
    size = store.size(name) if name else None
    if size is None:
        raise StorageError(str(file), "no such object", "check its name and AWS_ENDPOINT_URL")
    return store.open(name), size


def explain(error: Exception, file: RasterFile) -> str:
    """Return GDAL's reason in a line, without what may be secret.

    Raises:
        StorageError: If a remote file is not there any more, or its server is away.
    """
    reason = str(error.__cause__ or error).splitlines()[0]
    if isinstance(file, RemoteFile):
        try:
            with open_bytes(file) as data:
                data[:1]
        except StorageError as told:
            raise told from None
        # Wherever GDAL repeats the URL, or only the last part of it.
        reason = re.sub(r"\?[^\s,'\"]*", "", reason).replace("/vsicurl/", "")
    return reason


def cause_of(error: Exception, file: RasterFile) -> Exception | None:
    """Return an error of GDAL to chain, ``None`` where its text may hold a signature."""
    return None if isinstance(file, RemoteFile) and "?" in file.url else error


def gdal_name(file: RasterFile) -> str | Path:
    """Return the name by which GDAL knows a file; call :func:`prepare_gdal` before it is opened."""
    if not isinstance(file, RemoteFile):
        return file
    if file.scheme == "s3":
        return f"/vsis3/{file.url.partition('://')[2]}"
    return f"/vsicurl/{file.url}"


def prepare_gdal(file: RasterFile) -> None:
    """Tell GDAL how to reach the server of a file: as our own clients do."""
    if not isinstance(file, RemoteFile):
        return
    options = {key: value for key, value in PATIENCE.items() if key not in os.environ}
    trusted = TRUSTED if file.scheme == "s3" else TRUSTED[1:]
    # rasterio gives GDAL certifi's bundle, which knows no authority of one's own.
    if bundle := next((os.environ[name] for name in trusted if os.environ.get(name)), None):
        options["GDAL_CURL_CA_BUNDLE"] = bundle
    if file.scheme == "s3":
        options |= _s3_options()
    with _lock:
        # GDAL's settings are global to the process, as its caches are.
        for key, value in options.items():
            if value is None:
                if get_gdal_config(key) is not None:
                    del_gdal_config(key)
            else:
                set_gdal_config(key, value)


def _s3_options() -> dict[str, Any]:
    """Return GDAL's settings for the service that ``s3://`` means here; ``None`` unsets one."""
    # Imported here, so that local work does not wait for boto3.
    from rsdl.storage.s3.client import shared_client

    client = shared_client()
    keys = client.find_keys()
    endpoint = urlsplit(client.endpoint)
    address = endpoint.netloc + endpoint.path.rstrip("/")
    style = (client.boto.meta.config.s3 or {}).get("addressing_style")
    return {
        # GDAL itself knows Amazon's endpoints, which differ from region to region.
        "AWS_S3_ENDPOINT": address if client.is_custom else None,
        "AWS_HTTPS": "NO" if endpoint.scheme == "http" else "YES",
        "AWS_VIRTUAL_HOSTING": "FALSE" if style == "path" else "TRUE",
        "AWS_REGION": client.boto.meta.region_name,
        "AWS_NO_SIGN_REQUEST": "YES" if keys is None else "NO",
        "AWS_ACCESS_KEY_ID": None if keys is None else keys.access_key,
        "AWS_SECRET_ACCESS_KEY": None if keys is None else keys.secret_key,
        "AWS_SESSION_TOKEN": None if keys is None else keys.token,
        "AWS_REQUEST_PAYER": "requester" if client.pays else None,
    }
