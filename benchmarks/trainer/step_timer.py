"""The clock of a turn of training steps: time, launches and memory."""

import time
from dataclasses import dataclass

import torch

from benchmarks.peers.step_task import WARM_STEPS


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
