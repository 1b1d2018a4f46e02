"""Readers that do what the fuzzer must notice, each on its second input, and one that is good."""

import ctypes
import os
import time

from rsdl.core.errors import DataError
from tests.fuzz.targets import Target

FIXED = [b"good", b"bad", b"good too"]


def _hang(data: bytes) -> None:
    if data == b"bad":
        time.sleep(600)


def _abort(data: bytes) -> None:
    if data == b"bad":
        os.abort()


def _crash(data: bytes) -> None:
    if data == b"bad":
        ctypes.string_at(0)


def _allocate(data: bytes) -> bytes:
    return bytes((2 << 30) if data == b"bad" else 1)


def _swallow(data: bytes) -> bytes:
    """Take too much memory and make an error of ours of it, as a reader may."""
    try:
        return _allocate(data)
    except MemoryError as error:
        raise DataError("x", "Unable to allocate 2 GiB") from error


def _leave(data: bytes) -> None:
    if data == b"bad":
        os._exit(0)


def _raise(data: bytes) -> None:
    if data == b"bad":
        raise KeyError(data)


def _refuse(data: bytes) -> None:
    if data != b"whole":
        raise DataError("x", "is damaged")


TARGETS = {
    name: Target(lambda: [b"whole"], read, lambda: FIXED)
    for name, read in {
        "hang": _hang, "abort": _abort, "crash": _crash, "allocate": _allocate,
        "swallow": _swallow, "leave": _leave, "raise": _raise, "refuse": _refuse,
    }.items()
}  # fmt: skip
