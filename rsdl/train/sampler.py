"""A thread that reads gauges while a run goes on."""

import threading
import time
from collections.abc import Sequence

from rsdl.train.gauge import Gauge
from rsdl.train.usage import Reading, ReadingSums


class Sampler:
    """Reads gauges now and then, and keeps sums until somebody takes them.

    Args:
        gauges: Of the devices; without any nothing is started.
        every_s: Seconds between two readings.
    """

    def __init__(self, gauges: Sequence[Gauge], every_s: float = 1.0) -> None:
        self._gauges = gauges
        self._every_s = every_s
        self._sums = ReadingSums()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to read; it is no error to do so twice."""
        if self._gauges and self._thread is None:
            self._thread = threading.Thread(target=self._work, name="gauges", daemon=True)
            self._thread.start()

    def take(self) -> ReadingSums:
        """Return the sums since they were last taken."""
        with self._lock:
            sums, self._sums = self._sums, ReadingSums()
        return sums

    def stop(self) -> None:
        """End the thread and close the gauges; it is no error to do so twice."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        for gauge in self._gauges:
            gauge.close()
        self._gauges = ()

    def _work(self) -> None:
        before: list[Reading | None] = [None] * len(self._gauges)
        clock = [time.monotonic()] * len(self._gauges)
        while not self._ended.is_set():
            for k, gauge in enumerate(self._gauges):
                reading, now = gauge.read(), time.monotonic()
                with self._lock:
                    self._sums.add(before[k], reading, now - clock[k])
                before[k], clock[k] = reading, now
            self._ended.wait(self._every_s)
