"""A store on the local file system.

New bytes go to a hidden part file in the same folder and are renamed over the name after fsync, so
neither a killed process nor a full disk leaves a half-written file under a real name.
"""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rsdl.core.errors import StorageError
from rsdl.storage.store import Entry

PART_MARK = ".part-"


class LocalStore:
    """Names are files under one folder, which is made when something is first written.

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
        """Put ``data`` under ``name``, all or nothing."""
        with self.create(name) as path:
            try:
                path.write_bytes(data)
            except OSError as error:
                raise translate(error, self._path(name)) from error

    @contextmanager
    def create(self, name: str) -> Iterator[Path]:
        """Give a part file to write to; it is renamed to ``name`` when the block ends well."""
        path = self._path(name)
        part = path.with_name(f".{path.name}{PART_MARK}{os.getpid()}-{secrets.token_hex(4)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield part
            _sync(part)
            os.replace(part, path)
            _sync(path.parent)
        except OSError as error:
            raise translate(error, path) from error
        finally:
            part.unlink(missing_ok=True) if part.parent.is_dir() else None

    def local(self, name: str) -> Path:
        """Return the file itself: it is local already."""
        path = self._path(name)
        if not path.is_file():
            raise StorageError(str(path), "no such file")
        return path

    def size(self, name: str) -> int | None:
        """Return the size of ``name`` in bytes, or ``None`` where it does not exist."""
        try:
            return self._path(name).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise translate(error, self._path(name)) from error

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Yield every complete file whose name starts with ``prefix``, sorted by name."""
        names = (
            path.relative_to(self._root).as_posix()
            for path in self._root.rglob("*")
            if path.is_file() and PART_MARK not in path.name
        )
        for name in sorted(names):
            if name.startswith(prefix):
                yield Entry(name, self._path(name).stat().st_size)

    def delete(self, name: str) -> None:
        """Remove ``name``; it is no error if it does not exist."""
        try:
            self._path(name).unlink(missing_ok=True)
        except OSError as error:
            raise translate(error, self._path(name)) from error

    def _path(self, name: str) -> Path:
        path = self._root / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise StorageError(name, "a name must stay below the store's root")
        return path


def translate(error: OSError, path: Path) -> StorageError:
    """Return the ``StorageError`` that says in a user's words what ``error`` means for ``path``."""
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
    return StorageError(str(path), problem, remedy)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
