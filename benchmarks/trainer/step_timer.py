"""The clock of a turn of training steps: time, launches, memory, or waits of the host."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.harness.profiler_trace import WINDOW
from benchmarks.peers.step_task import WARM_STEPS

PROFILED_STEPS = 20  # spans two of our log rows


@dataclass(frozen=True, slots=True)
class Turn:
    """Cost of the steps of a turn.

    Attributes:
        steps: Steps that count.
        seconds: Wall time until the device had finished all steps.
        launch_s: Time until the host had launched the last step; if it equals ``seconds``, the
            device waited for the host.
        peak_bytes: Peak memory of tensors, on a GPU; else 0.
    """

    steps: int
    seconds: float
    launch_s: float
    peak_bytes: int


class StepClock:
    """Measures from the first step that counts to the end of the last.

    Args:
        device: Device that trains.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._ticks = 0
        self.turn: Turn | None = None

    def tick(self) -> None:
        """Start the measurement after the warm-up steps."""
        self._ticks += 1
        if self._ticks == WARM_STEPS + 1:
            self._wait()
            if self._device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(self._device)
            self._begin = time.perf_counter()

    def stop(self) -> None:
        """Stop once the device has finished all work."""
        launched = time.perf_counter()
        self._wait()
        end, on_gpu = time.perf_counter(), self._device.type == "cuda"
        self.turn = Turn(
            steps=self._ticks - WARM_STEPS,
            seconds=end - self._begin,
            launch_s=launched - self._begin,
            peak_bytes=torch.cuda.max_memory_allocated(self._device) if on_gpu else 0,
        )

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


class TraceClock:
    """Profiles some steps after the warm-up.

    Args:
        device: Device that trains.
        path: File for the trace.
        steps: Maximum number of steps to profile.
    """

    def __init__(self, device: torch.device, path: Path, steps: int = PROFILED_STEPS) -> None:
        self._path = path
        self._steps = steps
        self._ticks = 0
        on_gpu = [ProfilerActivity.CUDA] if device.type == "cuda" else []
        self._profile = profile(activities=[ProfilerActivity.CPU, *on_gpu])
        self._window: Any = record_function(WINDOW)
        self._is_open = False

    @property
    def num_steps(self) -> int:
        """Number of steps in the trace."""
        return min(self._ticks - WARM_STEPS, self._steps)

    def tick(self) -> None:
        """Start or stop the profiler."""
        self._ticks += 1
        if self._ticks == WARM_STEPS + 1:
            self._profile.start()
            self._window.__enter__()
            self._is_open = True
        elif self._ticks == WARM_STEPS + 1 + self._steps:
            self._close()

    def stop(self) -> None:
        """Stop the profiler, if there were fewer steps."""
        self._close()

    def _close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        self._window.__exit__(None, None, None)
        self._profile.stop()
        self._profile.export_chrome_trace(str(self._path))
