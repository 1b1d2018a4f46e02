"""Background uploads of a run's files, in order; the training step does not wait for them.

A bucket takes seconds for a checkpoint, and minutes when its gateway restarts. One thread uploads
in the order of submission, so that a reader who sees a checkpoint sees all files that it refers to.
A local folder is written to at once, by the caller: the page cache takes a checkpoint about as fast
as a copy in memory, which a thread would need.

A killed process loses the tasks that still wait, and only those; the run resumes from what was
uploaded.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rsdl.storage.local import LocalStore
from rsdl.storage.store import Store


@dataclass(frozen=True, slots=True)
class UploadTask:
    """One thing to deliver.

    Attributes:
        name: What it is; a newer task of the same name may take its place.
        deliver: Brings it where it belongs, as a whole or not at all.
        ordered: Whether nothing may change places with it, as with a checkpoint. Between two
            ordered tasks only the newest of a name is delivered.
    """

    name: str
    deliver: Callable[[], object]
    ordered: bool = False


def coalesce(waiting: Sequence[UploadTask]) -> list[UploadTask]:
    """Return what is left to deliver, without what newer tasks of the same name make needless.

    An ordered task is never left out, and none that stands before one moves behind it: it would be
    missing for whoever sees the ordered one.
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
    """Delivers tasks one after the other. One thread hands over, another may deliver.

    The first failure ends all: what stands behind it may build upon it. It is raised by whatever
    is asked for next, again and again, until :meth:`abandon`.

    Args:
        store: Where the tasks go; they know it themselves.
        background: Whether a thread delivers; ``None`` takes one for what is not a local folder.
    """

    def __init__(self, store: Store, *, background: bool | None = None) -> None:
        self.store = store
        remote = not isinstance(store, LocalStore)
        self.background = remote if background is None else background
        self._waiting: list[UploadTask] = []
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self._changed = threading.Condition()
        self.check_owner: Callable[[], object] = lambda: None  # before each delivery

    @property
    def is_busy(self) -> bool:
        """Whether something is on its way."""
        return self._thread is not None

    def submit(self, name: str, deliver: Callable[[], object], *, ordered: bool = False) -> None:
        """Hand over a task; see :class:`UploadTask`.

        Raises:
            Exception: What an earlier delivery failed with, or this one where no thread delivers.
        """
        if not self.background:
            self.check_owner()
            deliver()
            return
        with self._changed:
            self._check()
            self._waiting = coalesce([*self._waiting, UploadTask(name, deliver, ordered)])
            if self._thread is None:
                # It ends with the last task. A daemon, since nobody waits for it who quits.
                self._thread = threading.Thread(target=self._work, name="uploads", daemon=True)
                self._thread.start()

    def make_room(self, name: str) -> None:
        """Wait until no ordered task waits: so one copy of the state waits in memory at most.

        One of the same ``name`` that waits with no other ordered one behind it is dropped instead:
        what takes its place is newer, and would have to wait for it.

        Raises:
            Exception: What an earlier delivery failed with.
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

    def drain(self) -> None:
        """Wait until all is delivered.

        Raises:
            Exception: What a delivery failed with.
        """
        with self._changed:
            while self._thread is not None:
                self._changed.wait()
            self._check()

    def abandon(self) -> None:
        """Forget what waits and what failed; what comes now is delivered at once, by the caller."""
        with self._changed:
            self._waiting, self._error, self.background = [], None, False

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
            del task  # and the copy of the state that it holds
