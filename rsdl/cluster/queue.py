"""The order of a study's runs, and what exit codes mean for the rest; pure.

A preempted run has saved and comes first. A crashed run comes last, so that the cause (a full disk,
another process) has time to pass, and is retried a limited number of times. Wrong input is not
retried, since it does not change by itself.
"""

from collections import Counter, deque
from collections.abc import Iterable
from typing import Literal

from rsdl.core.errors import InputError, PreemptedError

Outcome = Literal["completed", "preempted", "crashed", "failed", "wrong", "stopped"]

TRIES = 3


class Queue:
    """The runs that are not finished.

    Args:
        names: Runs, in starting order.
        tries: Number of crashes after which a run is given up.

    Attributes:
        outcomes: Outcome of each finished run.
        stopping: Whether to start no more runs.
    """

    def __init__(self, names: Iterable[str], tries: int = TRIES) -> None:
        self.outcomes: dict[str, Outcome] = {}
        self.stopping = False
        self._waiting = deque(names)
        self._running: set[str] = set()
        self._crashes: Counter[str] = Counter()
        self._tries = tries

    @property
    def waiting(self) -> tuple[str, ...]:
        """Runs that may start, the next one first; none once the queue is stopping."""
        return () if self.stopping else tuple(self._waiting)

    @property
    def is_done(self) -> bool:
        """Whether no run is running or waiting."""
        return not self._running and not self.waiting

    @property
    def is_cut_short(self) -> bool:
        """Whether it was stopped before every run was finished."""
        return self.stopping and (bool(self._waiting) or "stopped" in self.outcomes.values())

    def begin(self, name: str) -> None:
        """Mark a waiting run as started."""
        self._waiting.remove(name)
        self._running.add(name)

    def skip(self, name: str) -> None:
        """Mark a waiting run as completed by another process."""
        self._waiting.remove(name)
        self.outcomes[name] = "completed"

    def finish(self, name: str, code: int) -> Outcome:
        """Return the outcome for an exit code; a run to be retried is queued again."""
        self._running.remove(name)
        outcome = self._judge(name, code)
        if outcome == "preempted":
            self._waiting.appendleft(name)
        elif outcome == "crashed":
            self._waiting.append(name)
        else:
            self.outcomes[name] = outcome
        return outcome

    def _judge(self, name: str, code: int) -> Outcome:
        if code == 0:
            return "completed"
        if code == InputError.exit_code:
            return "wrong"
        if self.stopping:
            return "stopped"
        if code == PreemptedError.exit_code:
            return "preempted"
        self._crashes[name] += 1
        return "crashed" if self._crashes[name] < self._tries else "failed"
