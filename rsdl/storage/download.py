"""From an object to a file: many ranges at once, each counted and resumed where it broke off.

Every request names the version that it wants, so bytes of two versions never mix. A response is
believed for as many bytes as it brought, whatever it said, and what comes out is hashed.
"""

import hashlib
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import as_completed, wait
from contextlib import closing

from rsdl.core.errors import StorageError
from rsdl.storage.client import Remote, S3Client
from rsdl.storage.refusal import FOREIGN, ShortBodyError

RANGE_BYTES = 8 << 20
BLOCK_BYTES = 1 << 20
Sink = Callable[[int, bytes], object]


def download(client: S3Client, remote: Remote, fd: int, sha256: str | None = None) -> None:
    """Write an object to an open file of its size, and check it.

    Args:
        client: Where it lies.
        remote: Which version.
        fd: The file, open for reading and writing.
        sha256: What the bytes must hash to; ``None`` takes what their writer said, if anything.

    Raises:
        StorageError: If the object was replaced, or its bytes are not what they should be.
    """
    for attempt in range(2):
        _fetch(client, remote, fd)
        wrong = _compare(remote, fd, sha256)
        if wrong is None:
            return
        # Damaged on the way is damaged once; damaged where it lies is damaged again.
        if attempt or wrong != "damaged":
            break
    raise StorageError(
        remote.url,
        "its content is not what was written: the checksum differs",
        "copy or pack it again",
    )


def read_range(client: S3Client, remote: Remote, start: int, stop: int) -> bytes:
    """Return bytes ``start`` to ``stop`` of an object, fewer where it ends before."""
    blocks: list[bytes] = []
    stop = min(stop, remote.size)
    if start < stop:
        _fetch_range(client, remote, start, stop, lambda _, block: blocks.append(block))
    return b"".join(blocks)


def _fetch(client: S3Client, remote: Remote, fd: int) -> None:
    def sink(at: int, block: bytes) -> None:
        while block:
            written = os.pwrite(fd, block, at)
            at, block = at + written, block[written:]

    if remote.size <= RANGE_BYTES:
        if remote.size:
            _fetch_range(client, remote, 0, remote.size, sink)
        return
    failed = threading.Event()
    futures = [
        client.pool.submit(
            _fetch_range, client, remote, at, min(at + RANGE_BYTES, remote.size), sink, failed
        )
        for at in range(0, remote.size, RANGE_BYTES)
    ]
    try:
        for future in as_completed(futures):
            future.result()
    except BaseException:
        failed.set()
        for future in futures:
            future.cancel()
        wait(futures)
        raise


def _fetch_range(
    client: S3Client,
    remote: Remote,
    start: int,
    stop: int,
    sink: Sink,
    failed: threading.Event | None = None,
) -> None:
    """Bring one range, beginning again where a connection broke; stop early when others failed."""
    outage = client.outage(remote.url, failed.wait if failed is not None else time.sleep)
    at = start
    while at < stop and not (failed is not None and failed.is_set()):
        try:
            answer = client.boto.get_object(
                Bucket=remote.bucket,
                Key=remote.key,
                Range=f"bytes={at}-{stop - 1}",
                IfMatch=remote.etag,
            )
            with closing(answer["Body"]) as body:
                if answer["ContentLength"] != stop - at:
                    found = answer["ContentLength"]
                    raise ShortBodyError(f"{found} bytes come where {stop - at} were asked for")
                while at < stop and (block := body.read(min(BLOCK_BYTES, stop - at))):
                    sink(at, block)
                    at += len(block)
                    outage.over()
            if at < stop:
                raise ShortBodyError(f"a response ended {stop - at} bytes early")
        except FOREIGN as error:
            client.endure(outage, error, remote.url)


def _compare(remote: Remote, fd: int, sha256: str | None) -> str | None:
    """Return ``None`` where the bytes are right, ``damaged`` or ``other`` where they are not."""
    promised = remote.sha256
    if sha256 is not None and promised is not None and sha256 != promised:
        return "other"
    wanted, kind = sha256 or promised, "sha256"
    if wanted is None:
        wanted, kind = remote.md5, "md5"
    if wanted is None or hash_open_file(fd, kind) == wanted:
        return None
    return "damaged"


def hash_open_file(fd: int, kind: str) -> str:
    """Return the digest of a whole open file, in hexadecimal."""
    digest = hashlib.new(kind, usedforsecurity=False)
    at = 0
    while block := os.pread(fd, BLOCK_BYTES, at):
        digest.update(block)
        at += len(block)
    return digest.hexdigest()
