"""File locks that end with the process that holds them, even if it is killed.

``flock`` belongs to an open file: the kernel releases it when a process is killed, and threads of
one process exclude each other too. After waiting for a lock, check that the path still names the
locked file: another process may have renamed or removed it meanwhile.
"""

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path


def lock_file(path: Path, *, create: bool, wait: bool) -> int | None:
    """Open a file and lock it exclusively.

    Args:
        path: The file.
        create: Whether to create it if missing.
        wait: Whether to wait for the current holder.

    Returns:
        The file descriptor; ``None`` where another holds the lock, or the file is missing or was
        renamed or removed during the wait.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    return _lock(path, flags, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def lock_folder(path: Path) -> int | None:
    """Lock a folder exclusively without waiting; return ``None`` where another holds it."""
    return _lock(path, os.O_RDONLY | os.O_CLOEXEC, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def exclusive(path: Path, patience_s: float) -> Iterator[None]:
    """Hold a lock file that is never removed.

    Raises:
        TimeoutError: If another process, for example a suspended one, holds it for longer than
            ``patience_s``.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    end = time.monotonic() + patience_s
    try:
        for pause in pauses():
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > end:
                    raise TimeoutError(f"{path} is locked by another process") from error
            time.sleep(pause)
        yield
    finally:
        os.close(fd)


@contextmanager
def exclusive_if_soon(path: Path, patience_s: float) -> Iterator[None]:
    """Hold a lock file as :func:`exclusive` does, or continue without it after ``patience_s``."""
    with ExitStack() as stack:
        with suppress(TimeoutError):
            stack.enter_context(exclusive(path, patience_s))
        yield


def pauses() -> Iterator[float]:
    """Yield, endlessly, the seconds to wait before the next attempt to take a lock.

    ``flock`` has no timeout, so callers poll.
    """
    pause = 0.001
    while True:
        yield pause
        pause = min(2 * pause, 0.05)


class SharedLock:
    """An open file with a shared lock; thread-safe.

    Args:
        path: The file.
        fd: The open and locked file; this object closes it.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.used_at = time.monotonic()
        self._fd: int | None = fd
        self._lock = threading.Lock()

    @classmethod
    def take(cls, path: Path) -> "SharedLock | None":
        """Lock a file; return ``None`` where it does not exist."""
        fd = _lock(path, os.O_RDONLY | os.O_CLOEXEC, fcntl.LOCK_SH)
        if fd is None:
            return None
        with suppress(OSError):
            os.utime(fd)  # eviction is by least recent use
        return cls(path, fd)

    def read(self, offset: int, length: int) -> bytes | None:
        """Return bytes of the file; ``None`` once the lock is closed."""
        with self._lock:
            if self._fd is None:
                return None
            self.used_at = time.monotonic()
            return os.pread(self._fd, length, offset)

    def close(self) -> None:
        """Close the file, which releases the lock; safe to call twice."""
        with self._lock:
            fd, self._fd = self._fd, None
            if fd is not None:
                with suppress(OSError):
                    os.utime(fd)
                os.close(fd)

    def __del__(self) -> None:
        self.close()


def _lock(path: Path, flags: int, kind: int) -> int | None:
    try:
        fd = os.open(path, flags, 0o600)
    except FileNotFoundError:
        if not flags & os.O_CREAT:
            return None
        # The folder was removed while in use, as people do with caches.
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(path, flags, 0o600)
    try:
        fcntl.flock(fd, kind)
        if os.path.samestat(os.fstat(fd), os.stat(path)):
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None
