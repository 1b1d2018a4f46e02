"""A store on the local file system.

New bytes go to a hidden part file in the same folder and are renamed over the name after fsync, so
neither a killed process nor a full disk leaves a half-written file under a real name. A part's name
identifies its writer; the next writer to that folder removes the parts of dead writers.
"""

import errno
import os
import secrets
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rsdl.core.errors import FullDiskError, RsdlError, StorageError, UnreachableError
from rsdl.storage.store import Entry

PART_MARK = ".part-"

FULL = (errno.ENOSPC, errno.EDQUOT)
# Errors of a failing disk, and of a network file system whose server does not answer.
AWAY = (
    errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.ESHUTDOWN, errno.EHOSTDOWN,
    errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH,
)  # fmt: skip

# Processes of other hosts cannot be checked: a part not modified for this long is abandoned.
ABANDONED_S = 24 * 3600

# Tells this process from an earlier one with the same PID, as in a restarted container.
PROCESS_TOKEN = secrets.token_hex(4)


class LocalBlob:
    """An open file.

    Uses ``pread`` rather than a memory map: a truncated file is then an error that names the file,
    not a SIGBUS.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = os.open(path, os.O_RDONLY)
        with suppress(OSError, AttributeError):
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_RANDOM)

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``, or fewer at the end of the file."""
        assert self._fd is not None, "read after close"
        try:
            return os.pread(self._fd, length, offset)
        except OSError as error:
            raise translate(error, self._path) from error

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            os.close(self._fd)
        self._fd = None


class LocalStore:
    """A store whose names are files under one folder, created on the first write.

    Args:
        root: The folder; it need not exist.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def url(self) -> str:
        """The folder as a path."""
        return str(self._root)

    def read(self, name: str) -> bytes:
        """Return all bytes of ``name``."""
        try:
            return self._path(name).read_bytes()
        except OSError as error:
            raise translate(error, self._path(name)) from error

    def write(self, name: str, data: bytes) -> None:
        """Write ``data`` to ``name`` atomically."""
        with self.create(name) as path:
            path.write_bytes(data)

    def write_once(self, name: str, data: bytes) -> bool:
        """Write ``data`` unless ``name`` exists; return whether ``name`` now holds ``data``."""
        path = self._path(name)
        part = path.with_name(_part_name(path.name))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _sweep_parts(path.parent)
            part.write_bytes(data)
            _sync(part)
            _link(part, path)
            _sync(path.parent)
            return True
        except FileExistsError:
            return self.size(name) == len(data) and self.read(name) == data
        except OSError as error:
            raise translate(error, path) from error
        finally:
            with suppress(OSError):
                part.unlink()

    @contextmanager
    def create(self, name: str) -> Iterator[Path]:
        """Yield a part file to write to; rename it to ``name`` if the block succeeds."""
        path = self._path(name)
        part = path.with_name(_part_name(path.name))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _sweep_parts(path.parent)
            yield part
            _sync(part)
            os.replace(part, path)
            _sync(path.parent)
        except OSError as error:
            # An error about another file, raised by the block itself, keeps that file's name.
            other = error.filename not in (None, str(part))
            raise translate(error, Path(str(error.filename)) if other else path) from error
        finally:
            with suppress(OSError):
                part.unlink()

    def local(self, name: str) -> Path:
        """Return the file itself: it is local already."""
        path = self._path(name)
        if self.size(name) is None:
            raise StorageError(str(path), "no such file")
        return path

    def open(self, name: str, sha256: str | None = None) -> LocalBlob:
        """Open the file; nothing is copied, so no checksum is verified."""
        path = self.local(name)
        try:
            return LocalBlob(path)
        except OSError as error:
            raise translate(error, path) from error

    def shard_cache(self) -> None:
        """Return ``None``: local files are not cached."""

    def size(self, name: str) -> int | None:
        """Return the size of ``name`` in bytes, or ``None`` where it does not exist."""
        try:
            found = self._path(name).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise translate(error, self._path(name)) from error
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Yield every complete file whose name starts with ``prefix``, sorted by name."""
        for name in _walk(self._root, "", prefix):
            # A file may vanish during the listing.
            if (size := self.size(name)) is not None:
                yield Entry(name, size)

    def delete(self, name: str) -> None:
        """Remove ``name`` and the folders this leaves empty; no error if it does not exist."""
        path = self._path(name)
        try:
            path.unlink(missing_ok=True)
        except NotADirectoryError:
            return
        except OSError as error:
            raise translate(error, path) from error
        with suppress(OSError):
            for folder in path.relative_to(self._root).parents[:-1]:
                (self._root / folder).rmdir()

    def _path(self, name: str) -> Path:
        parts = Path(name).parts
        if not parts or Path(name).is_absolute() or ".." in parts or "\0" in name:
            raise StorageError(name or '""', "a name must stay below the store's root")
        return self._root / name


def translate(error: OSError, path: Path) -> StorageError:
    """Return the ``StorageError`` that explains ``error`` on ``path`` to a user."""
    reasons: dict[int | None, tuple[str, str | None]] = {
        errno.ENOENT: ("no such file", None),
        errno.EACCES: ("permission denied", "choose a place that you may write to"),
        errno.EPERM: ("operation not permitted", "choose a place that you may write to"),
        errno.EROFS: ("the file system is read-only", "choose a place that you may write to"),
        errno.ENOSPC: ("the disk is full", "free some space and run the same command again"),
        errno.EDQUOT: ("the disk quota is used up", "free some space and run the command again"),
        errno.EISDIR: ("is a folder, not a file", None),
        errno.ENOTDIR: ("a part of the path is a file, not a folder", "choose another place"),
        errno.EEXIST: ("a part of the path is a file, not a folder", "choose another place"),
    }
    problem, remedy = reasons.get(error.errno, (error.strerror or str(error), None))
    if error.errno in FULL:
        return FullDiskError(str(path), problem, remedy)
    if error.errno in AWAY:
        remedy = "see that the disk or the file server is well, then run the same command again"
        return UnreachableError(str(path), f"the file system fails ({problem})", remedy)
    return StorageError(str(path), problem, remedy)


def explain_error(error: BaseException) -> RsdlError | None:
    """Return the rsdl error behind ``error``: one of ours, or a full or failing disk.

    Args:
        error: The error; its chain of causes is searched too.

    Returns:
        ``None`` for any other error.
    """
    cause: BaseException | None = error
    if isinstance(error, RsdlError):
        return error
    while cause is not None and not isinstance(cause, RsdlError):
        if isinstance(cause, OSError):
            # Sockets and terminals fail with the same errno as files, but have no file name.
            is_away = cause.errno in AWAY and cause.filename is not None
            if is_away or cause.errno in FULL:
                return translate(cause, Path(os.fsdecode(cause.filename or "a file of this run")))
        cause = cause.__cause__
    return None


def _walk(folder: Path, root: str, prefix: str) -> Iterator[str]:
    """Yield the names of files below a folder, sorted, holding the names of one folder at a time.

    Args:
        folder: The folder.
        root: Prefix of its names: empty, or its own name with a slash.
        prefix: Yield only names that start with this.
    """
    names = []
    gone = (FileNotFoundError, NotADirectoryError, PermissionError)
    with suppress(*gone), os.scandir(folder) as entries:
        for entry in entries:
            # The slash sorts a folder at the place of its files among its siblings.
            is_folder = entry.is_dir(follow_symlinks=False)
            names.append(root + entry.name + ("/" if is_folder else ""))
    names.sort()
    for name in names:
        if name.endswith("/"):
            if name.startswith(prefix) or prefix.startswith(name):
                yield from _walk(folder / name[len(root) : -1], name, prefix)
        elif name.startswith(prefix) and not _is_part(name):
            yield name


def _part_name(name: str) -> str:
    writer = f"{socket.gethostname()}-{os.getpid()}-{PROCESS_TOKEN}{secrets.token_hex(4)}"
    return f".{name}{PART_MARK}{writer}"


def _link(part: Path, path: Path) -> None:
    """Link ``part`` to ``path``; raise ``FileExistsError`` if ``path`` exists."""
    try:
        os.link(part, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        if path.exists():  # no hard links on this file system: check, then rename (not atomic)
            raise FileExistsError(errno.EEXIST, "exists", str(path)) from error
        os.rename(part, path)


def _is_part(name: str) -> bool:
    base = name.rpartition("/")[2]
    return base.startswith(".") and PART_MARK in base


def _sweep_parts(folder: Path) -> None:
    """Remove the parts of dead writers in a folder."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _is_part(entry.name) and _is_stale(entry, entry.name.rpartition(PART_MARK)[2]):
                os.unlink(entry)


def _is_stale(part: "os.DirEntry[str]", writer: str) -> bool:
    host, _, rest = writer.rpartition("-")[0].rpartition("-")
    token = writer.rpartition("-")[2]
    if host == socket.gethostname() and rest.isdigit() and not _is_alive(int(rest), token):
        return True
    return time.time() - part.stat().st_mtime > ABANDONED_S


def _is_alive(pid: int, token: str) -> bool:
    if pid == os.getpid():
        return token.startswith(PROCESS_TOKEN)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it is alive and belongs to another user
    return True


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
