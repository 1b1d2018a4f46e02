"""Retry policy for a store that fails temporarily.

botocore's own retries give up within a second when a server is down, but a gateway takes a minute
to restart. So every retryable failure is retried here, with exponential backoff and with jitter so
that a cluster's ranks do not retry in step, until a deadline counted from the first failure.
Progress in between resets the count.
"""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

logger = logging.getLogger(__name__)

# Log only waits that a user would notice.
QUIET_S = 5.0


@dataclass(frozen=True, slots=True)
class RetryRule:
    """Deadline and backoff of the retries.

    Attributes:
        deadline_s: Seconds from the first failure to the last attempt.
        first_s: Upper bound of the first wait, doubled after each failure.
        longest_s: Upper bound of any wait.
    """

    deadline_s: float = 120.0
    first_s: float = 0.1
    longest_s: float = 5.0


class RetryState:
    """Consecutive failures of one operation; not thread-safe.

    Args:
        rule: How long to retry.
        what: The operation, for the log.
        sleep: Waits that many seconds, or less if the operation is cancelled.
        clock: Monotonic clock in seconds.
    """

    def __init__(
        self,
        rule: RetryRule,
        what: str,
        *,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rule = rule
        self._what = what
        self._sleep = sleep
        self._clock = clock
        self._began: float | None = None
        self._told = False
        self.failures = 0

    @property
    def waited_s(self) -> float:
        """Seconds since the first failure; 0 if the last attempt succeeded."""
        return 0.0 if self._began is None else self._clock() - self._began

    def over(self) -> None:
        """Reset the failure count after progress."""
        if self._told:
            logger.info("%s: goes on after %.0f s", self._what, self.waited_s)
        self._began, self._told, self.failures = None, False, 0

    def wait(self, problem: str, patience_s: float | None = None) -> bool:
        """Wait before the next attempt; return whether to make one.

        Args:
            problem: What went wrong, for the log.
            patience_s: Give up this long after the first failure, if that is before the deadline.
        """
        if self._began is None:
            self._began = self._clock()
        deadline_s = self._rule.deadline_s
        left = min(deadline_s, deadline_s if patience_s is None else patience_s) - self.waited_s
        if left <= 0:
            return False
        longest = min(self._rule.first_s * 2 ** min(self.failures, 30), self._rule.longest_s)
        pause = min(left, longest * random.uniform(0.5, 1.0))
        # Log before the noticeable pause, not after it.
        if self.waited_s + pause > QUIET_S and not self._told:
            self._told = True
            logger.warning("%s: %s; trying for %.0f s more", self._what, problem, left)
        self.failures += 1
        self._sleep(pause)
        return True
