"""Temporary folders for uploads, removed when their process ends.

Each folder is locked while its process lives. The next process to open the staging folder removes
those of killed processes, after a callback has aborted their uploads.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rsdl.storage.local import translate
from rsdl.storage.locks import lock_folder


class StagingFolder:
    """Temporary folders below one folder; safe for threads and processes.

    Args:
        root: The folder; created if missing.
        abandon: Called with each folder that is finished or was left by a killed process; returns
            whether it may be removed now.
    """

    def __init__(self, root: Path, abandon: Callable[[Path], bool]) -> None:
        self.root = root
        self._abandon = abandon
        try:
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise translate(error, root) from error
        for folder in root.iterdir():
            with suppress(OSError):
                fd = lock_folder(folder)
                if fd is not None:
                    try:
                        self._remove(folder)
                    finally:
                        os.close(fd)

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """Yield an empty folder that is removed when the block ends."""
        try:
            path = Path(tempfile.mkdtemp(dir=self.root))
            fd = lock_folder(path)
        except OSError as error:
            raise translate(error, self.root) from error
        try:
            yield path
        finally:
            with suppress(OSError):
                self._remove(path)
            if fd is not None:
                os.close(fd)

    def _remove(self, folder: Path) -> None:
        if self._abandon(folder):
            shutil.rmtree(folder, ignore_errors=True)
