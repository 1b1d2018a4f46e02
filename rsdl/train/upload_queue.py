"""Background uploads of a run's files, in order; the training step does not wait for them.

Uploading a checkpoint to a bucket takes seconds, and minutes while its gateway restarts. One thread
uploads in the order of submission, so that a reader who sees a checkpoint sees all files that it
refers to. A local folder is written synchronously, unless ranks write shards: the page cache takes
a checkpoint about as fast as the copy in memory that a thread would need.

A killed process loses only the tasks that still wait; the run resumes from the uploaded files.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from rsdl.core.errors import PeerError
from rsdl.distributed.rank import is_main, max_over_ranks
from rsdl.storage.local import LocalStore, explain_error
from rsdl.storage.store import Store


@dataclass(frozen=True, slots=True)
class UploadTask:
    """One upload.

    Attributes:
        name: Name of the file; a newer task of the same name may replace this one.
        deliver: Writes the file atomically.
        ordered: Whether no other task may be reordered across this one, as for a checkpoint.
            Between two ordered tasks, only the newest task of each name is uploaded.
    """

    name: str
    deliver: Callable[[], object]
    ordered: bool = False


def coalesce(waiting: Sequence[UploadTask]) -> list[UploadTask]:
    """Return the waiting tasks without those that a newer task of the same name replaces.

    An ordered task is never dropped, and no task moves from before an ordered task to after it: a
    reader who sees the ordered file would miss the other.
    """
    kept: list[UploadTask] = []
    newer: set[str] = set()
    for task in reversed(waiting):
        if task.ordered:
            newer = set()
        elif task.name in newer:
            continue
        else:
            newer.add(task.name)
        kept.append(task)
    return kept[::-1]


class UploadQueue:
    """Uploads tasks one after the other, in the caller's thread or in a background thread.

    Only one thread may submit. The first failure drops all waiting tasks, since they may depend on
    the failed one. Every later call raises that failure again, until :meth:`abandon`.

    Args:
        store: Target of the tasks, for information: each task holds its own store.
        background: Whether to upload in a thread; ``None``: yes, unless ``store`` is local.
    """

    def __init__(self, store: Store, *, background: bool | None = None) -> None:
        self.store = store
        remote = not isinstance(store, LocalStore)
        self.background = remote if background is None else background
        self._waiting: list[UploadTask] = []
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self._changed = threading.Condition()
        self.check_owner: Callable[[], object] = lambda: None  # called before each upload
        self.is_alone = False  # whether other ranks have failed, so that none must wait for theirs

    @property
    def is_busy(self) -> bool:
        """Whether an upload is running or waiting."""
        return self._thread is not None

    def submit(self, name: str, deliver: Callable[[], object], *, ordered: bool = False) -> None:
        """Submit a task; see :class:`UploadTask`.

        Raises:
            Exception: The error of an earlier upload, or of this one without a background thread.
        """
        if not self.background:
            self.check_owner()
            deliver()
            return
        with self._changed:
            self._check()
            self._waiting = coalesce([*self._waiting, UploadTask(name, deliver, ordered)])
            if self._thread is None:
                # The thread ends with the last task. Daemon: an exit does not wait for it.
                self._thread = threading.Thread(target=self._work, name="uploads", daemon=True)
                self._thread.start()

    def make_room(self, name: str) -> None:
        """Wait until no ordered task waits, so that at most one copy of the state waits in memory.

        If the last waiting ordered task has the same ``name``, drop it instead of waiting for it:
        its replacement is newer.

        Raises:
            Exception: The error of an earlier upload.
        """
        with self._changed:
            while True:
                self._check()
                ordered = [task for task in self._waiting if task.ordered]
                if not ordered:
                    return
                if ordered[-1].name == name:
                    self._waiting = coalesce([p for p in self._waiting if p is not ordered[-1]])
                    ordered.pop()
                else:
                    self._changed.wait()

    def check(self) -> None:
        """Raise the error of an earlier upload, if there is one."""
        with self._changed:
            self._check()

    def drain(self) -> None:
        """Wait until all tasks are uploaded.

        Raises:
            Exception: The error of an upload.
        """
        with self._changed:
            while self._thread is not None:
                self._changed.wait()
            self._check()

    def abandon(self) -> None:
        """Drop waiting tasks and the failure; upload later tasks in the caller's thread."""
        with self._changed:
            self._waiting, self._error, self.background = [], None, False
            self.is_alone = True

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._thread = None
                    self._changed.notify_all()
                    return
                task = self._waiting.pop(0)
                self._changed.notify_all()
            try:
                self.check_owner()
                task.deliver()
            except Exception as error:
                with self._changed:
                    self._waiting, self._error = [], error
            del task  # frees the copy of the state that it holds


def drain_all_ranks(uploads: UploadQueue, device: torch.device) -> None:
    """Wait until the uploads of all ranks are complete; a collective that every rank must call.

    Rank 0 comes last: it waits for the shards of the others, and so for none that has failed.

    Args:
        uploads: This rank's uploads.
        device: This rank's device.

    Raises:
        PeerError: If only another rank's upload has failed.
        Exception: The error of an upload of this rank.
    """
    for is_turn in (not is_main(), is_main()):
        lost: Exception | None = None
        code = 0
        try:
            if is_turn:
                uploads.drain()
        except Exception as error:
            lost, known = error, explain_error(error)
            code = known.exit_code if known is not None else 1
        worst = max_over_ranks(code, device)
        if lost is not None:
            raise lost
        if worst:
            raise PeerError("run", "another rank could not write its checkpoint", exit_code=worst)
