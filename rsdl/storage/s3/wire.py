"""The bytes of a response into a file, on the shortest way that there is.

Over plain http the kernel moves them from the socket to the file (``splice``): they never come to
Python, which saves a copy and the buffers of three libraries. Over TLS they must be read to be
deciphered. Either way what arrives is counted here: a connection that ends early is not an error of
the socket's, so the caller compares.
"""

import errno
import fcntl
import os
import select
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ReadTimeoutError, ResponseStreamingError

BLOCK_BYTES = 1 << 20
F_SETPIPE_SZ = 1031  # Linux's; Python 3.11 names it only where its headers do
UNSUPPORTED = (errno.EINVAL, errno.ENOSYS)


def receive_body(body: Any, fd: int, at: int, count: int) -> Iterator[int]:  # noqa: ANN401 - no types
    """Write a response's bytes to an open file as they come.

    Args:
        body: botocore's body of a response, of which nothing has been read.
        fd: The file.
        at: Where in it the first byte goes.
        count: Bytes that the response has promised.

    Yields:
        How many more bytes are in the file; in all ``count``, or fewer where the connection ended.

    Raises:
        BotoCoreError: If the connection broke or stayed silent for too long.
        OSError: If the file cannot be written.
    """
    wire = _find_wire(body, count) if _can_splice() else None
    moves = _copy(body, fd, at, count) if wire is None else _splice(wire, fd, at, count)
    yield from moves


@dataclass(frozen=True, slots=True)
class _Wire:
    """What lies below a body: urllib3's response, the one of http.client, and the socket."""

    raw: Any
    answer: Any
    socket: socket.socket


def _find_wire(body: Any, count: int) -> _Wire | None:  # noqa: ANN401 - no types
    """Return the plain socket below a body, if it is one and all bytes on it are the body's."""
    raw = getattr(body, "_raw_stream", None)
    answer = getattr(raw, "_fp", None)
    stream = getattr(getattr(answer, "fp", None), "raw", None)
    found = getattr(stream, "_sock", None)
    # A TLS socket is of a class of its own.
    if type(found) is not socket.socket or getattr(answer, "length", None) != count:
        return None
    return _Wire(raw, answer, found)


def _splice(wire: _Wire, fd: int, at: int, count: int) -> Iterator[int]:
    # What came along with the headers lies in the stream's buffer.
    if first := wire.answer.fp.read1(min(count, BLOCK_BYTES)):
        write_all(fd, first, at)
        yield len(first)
    left, at = count - len(first), at + len(first)
    source, sink = os.pipe()
    try:
        with suppress(OSError):  # beyond a user's share of pipes the usual 64 KiB must do
            fcntl.fcntl(sink, F_SETPIPE_SZ, BLOCK_BYTES)
        while first and left and (moved := _lift(wire.socket, sink, left)):
            _drain(source, fd, at, moved)
            at, left = at + moved, left - moved
            yield moved
    finally:
        os.close(source)
        os.close(sink)
    if not left:
        # Now it is read to its end, and its connection can serve the next request.
        wire.answer.length = wire.raw.length_remaining = 0
        wire.raw.read()


def _lift(wire: socket.socket, sink: int, most: int) -> int:
    """Move what has arrived into a pipe; 0 where the connection has ended."""
    flags = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
    try:
        while True:
            with suppress(BlockingIOError):
                return os.splice(wire.fileno(), sink, min(most, BLOCK_BYTES), flags=flags)
            poll = select.poll()
            poll.register(wire, select.POLLIN)
            timeout_s = wire.gettimeout()
            if not poll.poll(None if timeout_s is None else timeout_s * 1000):
                raise ReadTimeoutError(endpoint_url="the endpoint")
    except OSError as error:
        if error.errno in UNSUPPORTED:
            _give_up_splicing()
        raise ResponseStreamingError(error=error) from error


def _drain(source: int, fd: int, at: int, count: int) -> None:
    while count:
        try:
            moved = os.splice(source, fd, count, offset_dst=at)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            data = os.read(source, count)  # a file system that takes no pipes
            write_all(fd, data, at)
            moved = len(data)
        at, count = at + moved, count - moved


def _copy(body: Any, fd: int, at: int, count: int) -> Iterator[int]:  # noqa: ANN401 - no types
    while count and (block := body.read(min(BLOCK_BYTES, count))):
        write_all(fd, block, at)
        at, count = at + len(block), count - len(block)
        yield len(block)


def write_all(fd: int, data: bytes, at: int) -> None:
    """Write bytes to an open file, however many calls that takes."""
    while data:
        written = os.pwrite(fd, data, at)
        at, data = at + written, data[written:]


def _can_splice() -> bool:
    return hasattr(os, "splice") and _state["splices"]


def _give_up_splicing() -> None:
    """Say that this kernel cannot; the next attempt copies."""
    _state["splices"] = False


_state = {"splices": True}
