"""Download an object to a file: concurrent range requests, each counted and resumed.

Every request names the object version, so bytes of two versions never mix. Only received bytes
count, whatever length the response announced. The bytes in the file are hashed in order while later
ranges are still in transit.
"""

import hashlib
import os
import threading
import time
from concurrent.futures import Future, wait
from contextlib import closing
from typing import Any

from rsdl.core.errors import ChangedError
from rsdl.storage.s3.client import Remote, S3Client
from rsdl.storage.s3.errors import FOREIGN, ShortBodyError
from rsdl.storage.s3.wire import BLOCK_BYTES, receive_body

# A request costs 2 ms of a core, so ranges are long; but an object should need several of them.
RANGE_BYTES = 8 << 20
MAX_RANGE_BYTES = 32 << 20
RANGES = 4

# Fits the core's own cache between the read and the hash.
HASH_BYTES = 256 << 10

# Bytes that must arrive before the hashing thread wakes up.
STEP_BYTES = 4 << 20


def download(client: S3Client, remote: Remote, fd: int, sha256: str | None = None) -> None:
    """Download an object to an open file of its size, and verify its checksum.

    Args:
        client: Client of its service.
        remote: The version to download.
        fd: The file, open for reading and writing.
        sha256: Expected hash; ``None`` uses the one that the writer stored, if any.

    Raises:
        StorageError: If the object was replaced, or its checksum differs.
    """
    kind, wanted = "sha256", sha256 or remote.sha256
    if wanted is None:
        kind, wanted = "md5", remote.md5
    if sha256 is None or remote.sha256 in (None, sha256):
        # Damage in transit does not recur, damage in the store does: a second attempt tells.
        for _ in range(2):
            digest = _Digest(fd, kind if wanted is not None else None)
            _fetch(client, remote, fd, digest)
            if digest.value in (None, wanted):
                return
    raise wrong_content(remote)


def wrong_content(remote: Remote) -> ChangedError:
    """Return the error for an object whose checksum differs."""
    return ChangedError(
        remote.url,
        "its content is not what was written: the checksum differs",
        "copy or pack it again",
    )


def read_range(client: S3Client, remote: Remote, start: int, stop: int) -> bytes:
    """Return bytes ``start`` to ``stop`` of an object, or fewer at its end."""
    blocks: list[bytes] = []
    at, stop = start, min(stop, remote.size)
    retry_state = client.retry_state(remote.url)
    while at < stop:
        try:
            with closing(_ask(client, remote, at, stop)) as body:
                while at < stop and (block := body.read(min(BLOCK_BYTES, stop - at))):
                    blocks.append(block)
                    at += len(block)
                    retry_state.over()
            _check_end(at, stop)
        except FOREIGN as error:
            client.wait_or_raise(retry_state, error, remote.url)
    return b"".join(blocks)


def hash_open_file(fd: int, kind: str) -> str:
    """Return the digest of a whole open file, in hexadecimal."""
    digest = _Digest(fd, kind)
    digest.follow(os.fstat(fd).st_size)
    return digest.value or ""


class _Digest:
    """A running digest of an open file, from its start up to the last :meth:`follow`.

    Args:
        fd: The file.
        kind: Name of the algorithm; ``None`` hashes nothing.
    """

    def __init__(self, fd: int, kind: str | None) -> None:
        self._fd = fd
        self._hash = hashlib.new(kind, usedforsecurity=False) if kind is not None else None
        self._at = 0
        self._buffer = memoryview(bytearray(HASH_BYTES))

    @property
    def value(self) -> str | None:
        """The digest in hexadecimal."""
        return None if self._hash is None else self._hash.hexdigest()

    def follow(self, stop: int) -> None:
        """Hash up to ``stop``."""
        while self._hash is not None and self._at < stop:
            room = self._buffer[: stop - self._at]
            count = os.preadv(self._fd, [room], self._at)
            if not count:
                return  # the file is shorter than expected: the digest will differ
            self._hash.update(room[:count])
            self._at += count


class _Arrivals:
    """Progress of the ranges of one object; thread-safe.

    Args:
        size: Bytes of the object.
        range_bytes: Bytes per range; the last may be shorter.
    """

    def __init__(self, size: int, range_bytes: int) -> None:
        self.ranges = [(at, min(at + range_bytes, size)) for at in range(0, size, range_bytes)]
        self.failed = threading.Event()
        self._ends = [start for start, _ in self.ranges]
        self._size = size
        self._first = 0  # all ranges before this one are complete
        self._wanted = 0
        self._changed = threading.Condition()

    def add(self, number: int, count: int) -> None:
        """Add received bytes to a range."""
        with self._changed:
            self._ends[number] += count
            if self._frontier() >= self._wanted:
                self._changed.notify()

    def fail(self) -> None:
        """Mark the download as failed and wake the waiting thread."""
        with self._changed:
            self.failed.set()
            self._changed.notify()

    def wait(self, wanted: int) -> int:
        """Wait for the first ``wanted`` bytes or a failure; return how many have arrived."""
        with self._changed:
            self._wanted = min(wanted, self._size)
            self._changed.wait_for(lambda: self._frontier() >= self._wanted or self.failed.is_set())
            return self._frontier()

    def _frontier(self) -> int:
        last = len(self.ranges) - 1
        while self._first < last and self._ends[self._first] == self.ranges[self._first][1]:
            self._first += 1
        return self._ends[self._first]


def _fetch(client: S3Client, remote: Remote, fd: int, digest: _Digest) -> None:
    if not remote.size:
        return
    share = -(-remote.size // RANGES)
    arrivals = _Arrivals(remote.size, min(max(share, RANGE_BYTES), MAX_RANGE_BYTES))
    if len(arrivals.ranges) == 1:
        _fetch_range(client, remote, fd, arrivals, 0)
        digest.follow(remote.size)
        return
    futures: list[Future[None]] = [
        client.pool.submit(_fetch_range, client, remote, fd, arrivals, number)
        for number in range(len(arrivals.ranges))
    ]
    try:
        there = 0
        while there < remote.size and not arrivals.failed.is_set():
            there = arrivals.wait(there + STEP_BYTES)
            digest.follow(there)
        wait(futures)
        for future in futures:
            future.result()
    except BaseException:
        arrivals.fail()
        for future in futures:
            future.cancel()
        wait(futures)
        raise


def _fetch_range(
    client: S3Client, remote: Remote, fd: int, arrivals: _Arrivals, number: int
) -> None:
    """Download one range, resuming after broken connections; stop early when others failed."""
    at, stop = arrivals.ranges[number]
    failed = arrivals.failed
    retry_state = client.retry_state(
        remote.url, failed.wait if len(arrivals.ranges) > 1 else time.sleep
    )
    try:
        while at < stop and not failed.is_set():
            try:
                with closing(_ask(client, remote, at, stop)) as body:
                    for count in receive_body(body, fd, at, stop - at):
                        at += count
                        arrivals.add(number, count)
                        retry_state.over()
                        if failed.is_set():
                            return
                _check_end(at, stop)
            except FOREIGN as error:
                client.wait_or_raise(retry_state, error, remote.url)
    except BaseException:
        arrivals.fail()
        raise


def _ask(client: S3Client, remote: Remote, start: int, stop: int) -> Any:  # noqa: ANN401
    """Return the response body of one range request."""
    answer = client.boto.get_object(
        Bucket=remote.bucket,
        Key=remote.key,
        Range=f"bytes={start}-{stop - 1}",
        IfMatch=remote.etag,
    )
    if answer["ContentLength"] != stop - start:
        answer["Body"].close()
        found = answer["ContentLength"]
        raise ShortBodyError(f"{found} bytes come where {stop - start} were asked for")
    return answer["Body"]


def _check_end(at: int, stop: int) -> None:
    if at < stop:
        raise ShortBodyError(f"a response ended {stop - at} bytes early")
