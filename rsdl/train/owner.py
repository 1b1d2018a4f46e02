"""Lock of a run's folder: one owning process at a time, without synchronized clocks.

A process acquires the folder by creating the file with the next number below ``.owner/``; the store
lets only one process create it. The highest number is the owner. The owner rewrites its file as a
heartbeat. A dead owner on the same host is detected at once; for an owner on another host, a new
process waits to see whether the heartbeat advances.
"""

import json
import logging
import os
import secrets
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from rsdl.core.errors import UNAVAILABLE, InputError, RsdlError, StorageError
from rsdl.storage.store import Store

logger = logging.getLogger(__name__)

FOLDER = ".owner/"
BEAT_S = 10.0
PATIENCE_S = 35.0


class OwnedError(InputError):
    """Another process trains in the run's folder."""


class Owner:
    """This process's lock on a run's folder.

    Args:
        store: The run's folder.
        number: Number of this process's file below ``.owner/``.
        page: Content of that file.
        beat_s: Seconds between two heartbeats.
    """

    def __init__(self, store: Store, number: int, page: dict[str, Any], beat_s: float) -> None:
        self._store, self._number, self._page = store, number, page
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._beat, args=(beat_s,), daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise if another process has acquired the folder, for example during a suspension.

        Raises:
            OwnedError: If so; the message names the process.
        """
        newest = _newest(self._store)
        if newest > self._number:
            who = _name(_read(self._store, newest))
            raise OwnedError(self._store.url, f"was taken over by {who}", "leave it to that one")

    def release(self) -> None:
        """Release the folder; the file stays, so that no number is used twice."""
        self._closing.set()
        self._thread.join(BEAT_S)
        with suppress(RsdlError):
            if _newest(self._store) == self._number:
                self._write({**self._page, "released": True})

    def _beat(self, beat_s: float) -> None:
        while not self._closing.wait(beat_s):
            self._page = {**self._page, "beat": self._page["beat"] + 1}
            with suppress(RsdlError):  # the next checkpoint reports a failing store
                if _newest(self._store) == self._number:
                    self._write(self._page)

    def _write(self, page: dict[str, Any]) -> None:
        self._store.write(_file(self._number), json.dumps(page).encode())


def own(
    store: Store, *, run: str | None = None, beat_s: float = BEAT_S, patience_s: float = PATIENCE_S
) -> Owner:
    """Acquire a run's folder; wait for the heartbeat of an owner on another host.

    Args:
        store: The run's folder.
        run: Id of an elastic run. An owner of the same one needs no waiting for: a rendezvous
            begins the next attempt only without it, and it does not write once it is replaced.
        beat_s: Seconds between two heartbeats of this process.
        patience_s: Seconds without a heartbeat after which an owner on another host counts as dead.

    Raises:
        OwnedError: If another process trains in the folder.
    """
    try:
        return _own(store, run, beat_s, patience_s)
    except OwnedError as error:
        if run is not None:
            error.exit_code = UNAVAILABLE  # two parts of one run may be about to meet
        raise


def _own(store: Store, run: str | None, beat_s: float, patience_s: float) -> Owner:
    newest = _newest(store)
    if newest:
        _wait_for(store, newest, patience_s, run)
    page = {**_describe(os.getpid()), "run": run, "token": secrets.token_hex(8), "beat": 0}
    page["since"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if not store.write_once(_file(newest + 1), json.dumps(page).encode()):
        raise _owned(store, _read(store, newest + 1))
    if (now := _newest(store)) != newest + 1:  # another process acquired it since the first look
        raise _owned(store, _read(store, now))
    owner = Owner(store, newest + 1, page, beat_s)
    for entry in list(store.list(FOLDER)):
        if entry.name < _file(newest + 1):
            store.delete(entry.name)
    return owner


def _wait_for(store: Store, number: int, patience_s: float, run: str | None) -> None:
    """Return once an owner is known to be dead or has released the folder.

    Raises:
        OwnedError: If the owner is alive.
    """
    first = _read(store, number)
    if first is None or first.get("released") or (run is not None and first.get("run") == run):
        return
    here = _describe(os.getpid())
    if first.get("place") == here["place"]:
        if first["started"] is None or _describe(first["pid"])["started"] == first["started"]:
            raise _owned(store, first)
        return
    logger.warning(
        "%s: waiting for up to %.0f s whether %s still trains it", store.url, patience_s,
        _name(first),
    )  # fmt: skip
    end, moved = time.monotonic() + patience_s, False
    while time.monotonic() < end:
        time.sleep(min(1.0, patience_s / 10))
        page = _read(store, number)
        if page is None or page.get("released"):
            return
        moved = page != first
    if moved:
        error = _owned(store, first)
        # A retry can help: the owner may be a pod that is saving before it terminates.
        error.exit_code = UNAVAILABLE
        raise error


def _owned(store: Store, page: dict[str, Any] | None) -> OwnedError:
    since = f" since {page['since']}" if page else ""
    return OwnedError(
        store.url,
        f"is being trained by {_name(page)}{since}",
        "stop that one, or choose another name",
    )


def _describe(pid: int) -> dict[str, Any]:
    """Return what identifies a process; ``started`` is ``None`` unless the process is alive.

    ``place`` is the host, its boot id and the PID namespace (the container): a PID is valid only
    within one place.
    """
    started: str | None = None
    with suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        started = fields[19] if fields[0] not in "ZX" else None
    place = socket.gethostname()
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        place = f"{place} {boot} {os.readlink('/proc/self/ns/pid')}"
    return {"host": socket.gethostname(), "pid": pid, "started": started, "place": place}


def _newest(store: Store) -> int:
    names = [entry.name[len(FOLDER) :] for entry in store.list(FOLDER)]
    return max((int(name) for name in names if name.isdecimal()), default=0)


def _read(store: Store, number: int) -> dict[str, Any] | None:
    if store.size(_file(number)) is None:
        return None
    try:
        page: dict[str, Any] = json.loads(store.read(_file(number)))
    except StorageError:
        if store.size(_file(number)) is not None:
            raise
        return None  # a newer owner has just deleted it
    except ValueError:  # not written by an owner
        return None
    return page


def _file(number: int) -> str:
    return f"{FOLDER}{number:08d}"


def _name(page: dict[str, Any] | None) -> str:
    return f"{page['host']}:{page['pid']}" if page else "another process"
