"""Throughput and data wait of a run over the last steps."""

import time
from collections import deque


class ThroughputMeter:
    """A sliding window over (time, samples, seconds waited for data).

    Args:
        length: Length of the window in steps.
    """

    def __init__(self, length: int = 100) -> None:
        self._marks: deque[tuple[float, int, float]] = deque(maxlen=length)
        self._clock = time.monotonic()

    def restart(self) -> None:
        """Clear the window, after a pause in training such as validation."""
        self._marks.clear()

    def tick(self, samples: int, waited_s: float) -> tuple[float, float]:
        """Add a step to the window.

        Args:
            samples: Samples read so far.
            waited_s: Seconds waited for the current loader so far; a new loader starts at 0.

        Returns:
            Seconds passed and seconds waited since the last call.
        """
        now = time.monotonic()
        passed, self._clock = now - self._clock, now
        if self._marks and waited_s < self._marks[-1][2]:
            self._marks.clear()
        waited = waited_s - self._marks[-1][2] if self._marks else 0.0
        self._marks.append((now, samples, waited_s))
        return passed, waited

    @property
    def images_per_s(self) -> float:
        """Samples per second; 0 before the second step."""
        if len(self._marks) < 2:
            return 0.0
        (begin, first, _), (end, last, _) = self._marks[0], self._marks[-1]
        return (last - first) / max(end - begin, 1e-9)

    @property
    def data_wait(self) -> float:
        """Share of the time that was spent waiting for data, 0 to 1."""
        if len(self._marks) < 2:
            return 0.0
        (begin, _, first), (end, _, last) = self._marks[0], self._marks[-1]
        return min(max((last - first) / max(end - begin, 1e-9), 0.0), 1.0)
