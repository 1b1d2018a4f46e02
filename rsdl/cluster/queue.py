"""Which run of a study is next, and what its exit code means for the rest; pure.

A run that was preempted has saved and comes first; one that crashed comes last, so that whatever
crashed it (a full disk, a neighbour) has time to pass, and comes a limited number of times. Wrong
input is not tried again: nothing about it changes by itself.
"""

from collections import Counter, deque
from collections.abc import Iterable
from typing import Literal

from rsdl.core.errors import InputError, PreemptedError

Outcome = Literal["completed", "preempted", "crashed", "failed", "wrong", "stopped"]

TRIES = 3


class Queue:
    """The runs that are not done yet.

    Args:
        names: Runs, in the order to begin them.
        tries: How often a run may crash before it is given up.

    Attributes:
        verdicts: What became of each run that is done.
        stopping: Whether nothing more is begun.
    """

    def __init__(self, names: Iterable[str], tries: int = TRIES) -> None:
        self.verdicts: dict[str, Outcome] = {}
        self.stopping = False
        self._waiting = deque(names)
        self._running: set[str] = set()
        self._crashes: Counter[str] = Counter()
        self._tries = tries

    @property
    def waiting(self) -> tuple[str, ...]:
        """Runs that may be begun, the next one first; none once the queue is stopping."""
        return () if self.stopping else tuple(self._waiting)

    @property
    def is_done(self) -> bool:
        """Whether nothing runs, and nothing is to be begun."""
        return not self._running and not self.waiting

    @property
    def is_cut_short(self) -> bool:
        """Whether it was stopped before every run had come to its end."""
        return self.stopping and (bool(self._waiting) or "stopped" in self.verdicts.values())

    def begin(self, name: str) -> None:
        """Note that a waiting run has begun."""
        self._waiting.remove(name)
        self._running.add(name)

    def skip(self, name: str) -> None:
        """Note that somebody else has completed a waiting run."""
        self._waiting.remove(name)
        self.verdicts[name] = "completed"

    def settle(self, name: str, code: int) -> Outcome:
        """Return what an exit code means for a run; it waits again if it is to be begun again."""
        self._running.remove(name)
        verdict = self._judge(name, code)
        if verdict == "preempted":
            self._waiting.appendleft(name)
        elif verdict == "crashed":
            self._waiting.append(name)
        else:
            self.verdicts[name] = verdict
        return verdict

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
