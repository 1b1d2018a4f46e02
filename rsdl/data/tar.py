"""Write tars deterministically with the offset of every member, and scan tars of any origin.

Headers contain no time, user or host, so equal samples give equal bytes.
"""

import hashlib
import io
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import BinaryIO, NamedTuple

from rsdl.core.errors import DataError

BLOCK = 512
ZEROS = bytes(BLOCK)
# Bytes hashed and written at a time: few calls, and small enough for the CPU cache.
CHUNK_BYTES = 1 << 20
LONGEST = 100
MAX_HEADER_BYTES = 16 << 20  # limit for extended headers, such as long names
CUT_OFF = ("unexpected end of data", "truncated header", "empty header")  # tarfile's messages


class Member(NamedTuple):
    """One file inside a tar.

    Attributes:
        name: Name in the tar.
        offset: First byte of its content in the tar.
        length: Bytes of its content.
    """

    name: str
    offset: int
    length: int

    @property
    def key(self) -> str:
        """Sample key: the name up to the first dot of its last path component."""
        folder, slash, base = self.name.rpartition("/")
        return folder + slash + base.split(".", 1)[0]

    @property
    def extension(self) -> str:
        """The rest after that dot, in lower case; empty if there is no dot."""
        return self.name.rpartition("/")[2].partition(".")[2].lower()


class TarWriter:
    """Write members one after another, and hash the written bytes.

    Small members are collected first, so that thousands of them need few calls, each of which
    releases the GIL.

    Args:
        stream: A stream open for binary writing, at its start.
        pool: Executor that hashes while the next members are prepared, may be shared; ``None``
            hashes in this thread.
    """

    def __init__(self, stream: BinaryIO, pool: Executor | None = None) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()
        self._pool = pool
        self._hashing: Future[None] | None = None
        self._gathered: list[bytes] = []
        self._written = 0
        self.bytes = 0

    def add(self, name: str, content: bytes) -> Member:
        """Append one member and return its position."""
        return Member(name, self._gather(name, content), len(content))

    def add_group(self, key: str, members: Iterable[tuple[str, bytes]]) -> list[int]:
        """Append members ``key.extension`` and return the offset of each one's content."""
        return [self._gather(f"{key}.{extension}", content) for extension, content in members]

    def close(self) -> str:
        """Write the end of the archive and return the SHA-256 of everything written."""
        self._gathered.append(bytes(2 * BLOCK))
        self.bytes += 2 * BLOCK
        self._write()
        self._settle()
        return self._hash.hexdigest()

    def _gather(self, name: str, content: bytes) -> int:
        header, length = make_header(name, len(content)), len(content)
        padding = -length % BLOCK
        offset = self.bytes + len(header)
        self._gathered += (header, content, ZEROS[:padding])
        self.bytes = end = offset + length + padding
        if end - self._written >= CHUNK_BYTES:
            self._write()
        return offset

    def _write(self) -> None:
        # Do not copy large members to join them with the rest.
        large = self.bytes - self._written >= 4 * CHUNK_BYTES
        for part in self._gathered if large else (b"".join(self._gathered),):
            self._update(part)
            self._stream.write(part)
        self._gathered.clear()
        self._written = self.bytes

    def _update(self, part: bytes) -> None:
        if self._pool is None:
            self._hash.update(part)
            return
        self._settle()  # hash parts in order, and keep few of them in memory
        self._hashing = self._pool.submit(self._hash.update, part)

    def _settle(self) -> None:
        if self._hashing is not None:
            self._hashing.result()
            self._hashing = None


def make_header(name: str, size: int) -> bytes:
    """Return the header of one member, identical to that of ``tarfile``.

    Nearly all names are short and ASCII: for these a template is filled in, ten times as fast.

    Args:
        name: Name in the tar.
        size: Bytes of its content.
    """
    if not name.isascii() or len(name) > LONGEST or size >= 8**11:
        return _tarfile_header(name, size)
    start, digits = name.encode(), b"%011o" % size
    checksum = b"%06o" % (sum(start) + sum(digits) + SUM_OF_REST)
    return start.ljust(LONGEST, b"\0") + BEFORE_SIZE + digits + BEFORE_SUM + checksum + AFTER_SUM


def _tarfile_header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info.tobuf(tarfile.PAX_FORMAT)


FORM = _tarfile_header("", 0)
# The constant parts: between name and size, between size and checksum, and after the checksum.
BEFORE_SIZE, BEFORE_SUM, AFTER_SUM = FORM[100:124], FORM[135:148], FORM[154:]
# The checksum counts its own eight bytes as spaces.
SUM_OF_REST = 8 * ord(" ") + sum(BEFORE_SIZE + BEFORE_SUM + FORM[156:])


class _Headers(io.BufferedReader):
    """A tar stream for reading headers, with a limit on the length that a damaged one claims."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes; reject a too large size before memory is allocated."""
        if size is None or not 0 <= size <= MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header claims {size} bytes")
        return super().read(size)


def scan_tar(path: Path, where: str, left_out: Counter[str] | None = None) -> Iterator[Member]:
    """Yield every regular member of an uncompressed tar, reading headers only.

    ``tarfile`` treats a damaged header, or a file truncated between two members, as the end of the
    archive; this function requires the end-of-archive block after the last member.

    Args:
        path: The tar.
        where: Name of the tar for errors.
        left_out: Counts members that are neither files nor folders.

    Raises:
        DataError: If it is not a tar, is empty, damaged or truncated.
    """
    size = path.stat().st_size
    try:
        with (
            _Headers(io.FileIO(path)) as stream,
            tarfile.open(fileobj=stream, mode="r:") as archive,
        ):
            for info in archive:
                if info.offset_data + info.size > size:
                    raise _truncated(where, size)
                if info.isreg():
                    yield Member(_printable(info.name), info.offset_data, info.size)
                elif left_out is not None and not info.isdir():
                    left_out["links and devices in tars"] += 1
            end = archive.offset
    except (tarfile.TarError, ValueError) as error:
        if str(error) in CUT_OFF and size >= BLOCK:
            raise _truncated(where, size) from error
        reason = f"is not a readable tar: {error}"
        raise DataError(where, reason, "write it anew, uncompressed") from error
    _check_end(path, end, where)


def _check_end(path: Path, end: int, where: str) -> None:
    with path.open("rb") as stream:
        stream.seek(end)
        mark = stream.read(BLOCK)
    if len(mark) < BLOCK:
        raise _truncated(where, path.stat().st_size)
    if any(mark):
        raise DataError(where, f"is damaged at byte {end}", "copy or write it again")
    if end == 0:
        raise DataError(where, "has no members", "remove it or write it again")


def _truncated(where: str, size: int) -> DataError:
    return DataError(where, f"is truncated ({size} bytes)", "copy or write it again")


def _printable(name: str) -> str:
    """Return a member's name with non-UTF-8 bytes as backslash escapes."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def hash_file(path: Path, block_bytes: int = 1 << 20) -> str:
    """Return the SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as stream:
        while block := stream.read(block_bytes):
            digest.update(block)
    return digest.hexdigest()


def tar_bytes(members: dict[str, bytes]) -> bytes:
    """Return a complete tar as bytes; for small tars."""
    stream = io.BytesIO()
    writer = TarWriter(stream)
    for name, content in members.items():
        writer.add(name, content)
    writer.close()
    return stream.getvalue()
