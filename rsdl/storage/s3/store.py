"""A store in an S3 bucket: names are keys below a prefix.

Reads go through the node's cache, or by range where there is no cache or no room in it. Writes go
through a staging folder on the local disk, since an object can only be written as a whole.
"""

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Any

from botocore.exceptions import ClientError

from rsdl.core.errors import StorageError
from rsdl.storage.cache.config import CacheConfig
from rsdl.storage.cache.node_cache import NodeCache, open_cache
from rsdl.storage.cache.shard_cache import NodeShardCache, Wanted
from rsdl.storage.local import translate
from rsdl.storage.locks import SharedLock
from rsdl.storage.s3.blob import S3Blob
from rsdl.storage.s3.client import Remote, S3Client, plain_md5, shared_client
from rsdl.storage.s3.download import download, read_range, wrong_content
from rsdl.storage.s3.endpoint import AWS, StorageConfig
from rsdl.storage.s3.errors import ShortBodyError, code_of
from rsdl.storage.s3.upload import SHA256, abort_noted, upload_bytes, upload_file, upload_new
from rsdl.storage.staging import StagingFolder
from rsdl.storage.store import Entry

# Each thread keeps its last few paths locked in the cache, exempt from eviction.
KEPT_PATHS = 4


class S3Store:
    """A store whose names are objects below one prefix of an existing bucket.

    Args:
        bucket: The bucket.
        prefix: Prefix of every key, without the slash that follows; may be empty.
        cache: The node's cache; ``None`` caches nothing.
        storage: How to reach the service.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str,
        cache: CacheConfig | None = None,
        storage: StorageConfig = AWS,
    ) -> None:
        self._storage = storage
        self._bucket = bucket
        self._prefix = prefix
        self._keeps = cache is not None
        self._config = cache or CacheConfig()
        self._versions: dict[str, Remote] = {}
        self._given = threading.local()

    @property
    def url(self) -> str:
        """The prefix as ``s3://bucket/prefix``."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def read(self, name: str) -> bytes:
        """Return all bytes of ``name``."""
        where, request = self._where(name), self._request(name)

        def ask() -> bytes:
            answer = self._client.boto.get_object(**request)
            with closing(answer["Body"]) as body:
                data: bytes = body.read()
            if len(data) != answer["ContentLength"] or not _is_intact(data, answer):
                raise ShortBodyError("the response is not what was stored")
            return data

        return self._client.retry(where, ask)

    def write(self, name: str, data: bytes) -> None:
        """Write ``data`` to ``name`` atomically."""
        upload_bytes(self._client, self._bucket, self._key(name), data)

    def write_once(self, name: str, data: bytes) -> bool:
        """Write ``data`` unless ``name`` exists; return whether ``name`` now holds ``data``."""
        if upload_new(self._client, self._bucket, self._key(name), data):
            return True
        # The object may come from our own earlier attempt whose response was lost.
        return self.size(name) == len(data) and self.read(name) == data

    @contextmanager
    def create(self, name: str) -> Iterator[Path]:
        """Yield a path to write to; upload it as ``name`` if the block succeeds."""
        key = self._key(name)
        with self._staging.folder() as folder:
            path = folder / (PurePosixPath(key).name or "object")
            try:
                yield path
                upload_file(self._client, self._bucket, key, path)
            except OSError as error:
                raise translate(error, Path(str(error.filename or path))) from error

    def local(self, name: str) -> Path:
        """Return the path of a copy; it stays until this thread has asked for several others."""
        remote = self._find(name)
        pin = self._cache.hold(*self._wanted(remote, None)) if self._keeps else None
        if pin is not None:
            self._keep(pin)
            return pin.path
        # A path cannot be read by range: use a temporary copy outside the cache.
        with ExitStack() as stack:
            if not self._keeps and hasattr(os, "memfd_create"):
                return self._keep_in_memory(remote, stack)
            folder = stack.enter_context(self._staging.folder())
            path = folder / PurePosixPath(remote.key).name
            try:
                with path.open("w+b") as stream:
                    download(self._client, remote, stream.fileno())
            except OSError as error:
                raise translate(error, path) from error
            self._keep(stack.pop_all())
        return path

    def open(self, name: str, sha256: str | None = None) -> "S3Blob":
        """Open ``name`` in the version that this store saw first.

        Raises:
            StorageError: If that version's SHA-256 is known to differ from ``sha256``. Cached
                copies are verified as a whole, ranges not at all.
        """
        remote = self._first_seen(name)
        if None not in (sha256, remote.sha256) and sha256 != remote.sha256:
            raise wrong_content(remote)
        return S3Blob(self, remote, sha256)

    def shard_cache(self) -> NodeShardCache | None:
        """Return the cache of opened objects; ``None`` if nothing is cached."""
        if not self._keeps:
            return None

        def recall(name: str) -> Wanted | None:
            remote = self._versions.get(name)
            return None if remote is None else self._wanted(remote, None)

        def describe(name: str, sha256: str | None) -> Wanted:
            return self._wanted(self._first_seen(name), sha256)

        return NodeShardCache(self._cache, describe, recall)

    def size(self, name: str) -> int | None:
        """Return the size of ``name`` in bytes, or ``None`` where it does not exist."""
        found = self._head(name)
        return None if found is None else int(found["ContentLength"])

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Yield every object whose name starts with ``prefix``, sorted by name."""
        root = f"{self._prefix}/" if self._prefix else ""
        request = {"Bucket": self._bucket, "Prefix": root + prefix}
        while True:
            page = self._client.call(self.url, "list_objects_v2", **request)
            for item in page.get("Contents", ()):
                if not item["Key"].endswith("/"):  # a folder placeholder, made by some S3 browsers
                    yield Entry(item["Key"].removeprefix(root), item["Size"])
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    def delete(self, name: str) -> None:
        """Remove ``name``; no error if it does not exist."""
        self._client.call(self._where(name), "delete_object", **self._request(name))

    def hold(self, remote: Remote, sha256: str | None) -> SharedLock | None:
        """Return a lock on a cached copy; ``None`` where there is no cache or no room."""
        if not self._keeps:
            return None
        return self._cache.hold(*self._wanted(remote, sha256), close_idle=True)

    def take(self, remote: Remote) -> SharedLock | None:
        """Return a lock on a copy that is cached already, or ``None``."""
        wanted = self._wanted(remote, None)
        return self._cache.take(wanted.name, wanted.suffix) if self._keeps else None

    def stream(self, remote: Remote, offset: int, length: int) -> bytes:
        """Return bytes of an object without caching them."""
        return read_range(self._client, remote, offset, offset + length)

    def _keep_in_memory(self, remote: Remote, stack: ExitStack) -> Path:
        """Return the path of a copy in anonymous memory of this process."""
        fd = os.memfd_create("rsdl", os.MFD_CLOEXEC)
        stack.callback(os.close, fd)
        try:
            os.ftruncate(fd, remote.size)
            download(self._client, remote, fd)
        except OSError as error:
            raise translate(error, Path(remote.url)) from error
        self._keep(stack.pop_all())
        return Path(f"/proc/self/fd/{fd}")

    def _wanted(self, remote: Remote, sha256: str | None) -> Wanted:
        name = "\0".join((self._client.endpoint, remote.bucket, remote.key, remote.etag))
        fill = partial(download, self._client, remote, sha256=sha256)
        return Wanted(name, remote.size, fill, PurePosixPath(remote.key).suffix)

    def _first_seen(self, name: str) -> Remote:
        if name not in self._versions:
            # Two threads may ask at once: both use the version stored first.
            self._versions.setdefault(name, self._find(name))
        return self._versions[name]

    def _keep(self, held: SharedLock | ExitStack) -> None:
        kept: list[SharedLock | ExitStack] = self._given.__dict__.setdefault("kept", [])
        kept.append(held)
        if len(kept) > KEPT_PATHS:
            kept.pop(0).close()

    def _find(self, name: str) -> Remote:
        found = self._head(name)
        if found is None:
            raise StorageError(self._where(name), "no such object")
        return Remote(
            bucket=self._bucket,
            key=self._key(name),
            size=int(found["ContentLength"]),
            etag=found["ETag"],
            sha256=found.get("Metadata", {}).get(SHA256),
            md5=plain_md5(found),
        )

    def _head(self, name: str) -> dict[str, Any] | None:
        request = self._request(name)

        def ask() -> dict[str, Any] | None:
            try:
                found: dict[str, Any] = self._client.boto.head_object(**request)
                return found
            except ClientError as error:
                code = code_of(error)
                # No object, no bucket, or no permission to know: a HEAD response has no body that
                # says which. List only below this key, since more may be forbidden.
                if code in ("403", "404") and self._is_missing(request, known=code == "404"):
                    return None
                if code in ("400", "403"):
                    self._client.boto.get_object(**request, Range="bytes=0-0")["Body"].close()
                raise

        return self._client.retry(self._where(name), ask)

    def _is_missing(self, request: dict[str, str], *, known: bool) -> bool:
        """Return whether a listing shows that a key does not exist.

        Args:
            request: Bucket and key.
            known: Whether HEAD already said so, and only the bucket is in doubt.
        """
        try:
            page = self._client.boto.list_objects_v2(
                Bucket=request["Bucket"], Prefix=request["Key"], MaxKeys=1
            )
        except ClientError as error:
            if code_of(error) == "AccessDenied":
                return known  # without permission to list, a reader still gets an honest 404
            raise
        # A key sorts first among the keys that start with it.
        return known or all(item["Key"] != request["Key"] for item in page.get("Contents", ()))

    def _request(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._key(name)}

    def _where(self, name: str) -> str:
        return f"s3://{self._bucket}/{self._key(name)}"

    def _key(self, name: str) -> str:
        parts = PurePosixPath(name).parts
        if not parts or parts[0] == "/" or ".." in parts or "\0" in name:
            raise StorageError(name or '""', "a name must stay below the store's root")
        return f"{self._prefix}/{name}" if self._prefix else name

    @cached_property
    def _client(self) -> S3Client:
        return shared_client(self._storage)

    @cached_property
    def _cache(self) -> NodeCache:
        return open_cache(self._config)

    @cached_property
    def _staging(self) -> StagingFolder:
        return StagingFolder(self._config.root / "spool", partial(abort_noted, self._client))


def _is_intact(data: bytes, answer: dict[str, Any]) -> bool:
    md5 = plain_md5(answer)
    return md5 is None or hashlib.md5(data, usedforsecurity=False).hexdigest() == md5
