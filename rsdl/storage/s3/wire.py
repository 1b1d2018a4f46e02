"""Copy a response body to a file with as few copies as possible.

Over plain http the kernel moves the bytes from the socket to the file (``splice``): they bypass
Python, which saves a copy and the buffers of three libraries. Over TLS they must be read to be
decrypted. Either way the received bytes are counted here: a connection that ends early is not a
socket error, so the caller compares the count.
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
F_SETPIPE_SZ = 1031  # of Linux; Python 3.11 defines it only if built with the kernel's headers
UNSUPPORTED = (errno.EINVAL, errno.ENOSYS)


def receive_body(body: Any, fd: int, at: int, count: int) -> Iterator[int]:  # noqa: ANN401 - no types
    """Write the bytes of a response to an open file as they arrive.

    Args:
        body: botocore's response body, not yet read.
        fd: The file.
        at: File offset of the first byte.
        count: Announced length in bytes.

    Yields:
        Bytes added to the file; in total ``count``, or fewer if the connection ended early.

    Raises:
        BotoCoreError: If the connection broke or timed out.
        OSError: If the file cannot be written.
    """
    wire = _find_wire(body, count) if _can_splice() else None
    moves = _copy(body, fd, at, count) if wire is None else _splice(wire, fd, at, count)
    yield from moves


@dataclass(frozen=True, slots=True)
class _Wire:
    """The layers below a body: urllib3's response, http.client's response, and the socket."""

    raw: Any
    answer: Any
    socket: socket.socket


def _find_wire(body: Any, count: int) -> _Wire | None:  # noqa: ANN401 - no types
    """Return the plain socket below a body, if the body is all that is left to read on it."""
    raw = getattr(body, "_raw_stream", None)
    answer = getattr(raw, "_fp", None)
    stream = getattr(getattr(answer, "fp", None), "raw", None)
    found = getattr(stream, "_sock", None)
    # A TLS socket has a class of its own.
    if type(found) is not socket.socket or getattr(answer, "length", None) != count:
        return None
    return _Wire(raw, answer, found)


def _splice(wire: _Wire, fd: int, at: int, count: int) -> Iterator[int]:
    # Bytes that arrived with the headers are in the stream's buffer.
    if first := wire.answer.fp.read1(min(count, BLOCK_BYTES)):
        write_all(fd, first, at)
        yield len(first)
    left, at = count - len(first), at + len(first)
    source, sink = os.pipe()
    try:
        with suppress(OSError):  # above the user's pipe quota, keep the default 64 KiB
            fcntl.fcntl(sink, F_SETPIPE_SZ, BLOCK_BYTES)
        while first and left and (moved := _lift(wire.socket, sink, left)):
            _drain(source, fd, at, moved)
            at, left = at + moved, left - moved
            yield moved
    finally:
        os.close(source)
        os.close(sink)
    if not left:
        # Mark the body as read to its end, so that its connection can serve the next request.
        wire.answer.length = wire.raw.length_remaining = 0
        wire.raw.read()


def _lift(wire: socket.socket, sink: int, most: int) -> int:
    """Move the bytes that have arrived into a pipe; return 0 at the end of the connection."""
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
            data = os.read(source, count)  # this file system does not support splice
            write_all(fd, data, at)
            moved = len(data)
        at, count = at + moved, count - moved


def _copy(body: Any, fd: int, at: int, count: int) -> Iterator[int]:  # noqa: ANN401 - no types
    while count and (block := body.read(min(BLOCK_BYTES, count))):
        write_all(fd, block, at)
        at, count = at + len(block), count - len(block)
        yield len(block)


def write_all(fd: int, data: bytes, at: int) -> None:
    """Write all bytes to an open file, in as many calls as needed."""
    while data:
        written = os.pwrite(fd, data, at)
        at, data = at + written, data[written:]


def _can_splice() -> bool:
    return hasattr(os, "splice") and _state["splices"]


def _give_up_splicing() -> None:
    """Remember that this kernel cannot splice; the next attempt copies."""
    _state["splices"] = False


_state = {"splices": True}
