"""What a profiler's trace says of training steps: how often the host waited, how busy the GPU was.

A trace is Chrome's JSON, as ``torch.profiler`` exports it. Only what lies between the beginning and
the end of a range named ``WINDOW`` counts: the profiler itself waits for the device at its end.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WINDOW = "benchmark steps"

# Calls of the CUDA runtime and driver that return when the device has come so far.
WAITS = {
    "cudaDeviceSynchronize", "cudaStreamSynchronize", "cudaEventSynchronize", "cudaMemcpy",
    "cudaMemcpy2D", "cuCtxSynchronize", "cuStreamSynchronize", "cuEventSynchronize",
}  # fmt: skip
# Operations of PyTorch that bring values to the host, or whose shapes depend on values.
READS = {"aten::item", "aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero",
         "aten::masked_select", "aten::equal"}  # fmt: skip
PAGEABLE = "Pageable"  # in the name of a copy between host and device: the host waits for it
DEVICE_WORK = {"kernel", "gpu_memcpy", "gpu_memset"}

Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Waits:
    """What was found in a trace.

    Attributes:
        waits: Calls that wait for the device, by name.
        reads: Operations that read values, by name; on the CPU they wait for nothing.
        pageable: Copies from or to memory that is not page-locked.
        busy: Share of the time in which the device did something, 0 to 1; ``None`` without one.
    """

    waits: Mapping[str, int]
    reads: Mapping[str, int]
    pageable: int
    busy: float | None

    @property
    def num_waits(self) -> int:
        """All of the calls that wait, and copies that do."""
        return sum(self.waits.values()) + self.pageable


def read_trace(path: Path) -> Waits:
    """Return what a trace holds within its window."""
    return find_waits(json.loads(path.read_text())["traceEvents"])


def find_waits(events: Sequence[Event]) -> Waits:
    """Return what a trace's events hold within their window.

    Raises:
        ValueError: If there is no window.
    """
    spans = [event for event in events if event.get("ph") == "X"]
    window = next((e for e in spans if e["name"] == WINDOW and "gpu" not in e.get("cat", "")), None)
    if window is None:
        raise ValueError(f"the trace has no range {WINDOW!r}")
    begin, end = window["ts"], window["ts"] + window["dur"]
    within = [event for event in spans if begin <= event["ts"] < end]
    names = Counter(event["name"] for event in within)
    work = [event for event in within if event.get("cat") in DEVICE_WORK]
    return Waits(
        waits={name: names[name] for name in sorted(WAITS & names.keys())},
        reads={name: names[name] for name in sorted(READS & names.keys())},
        pageable=sum(PAGEABLE in event["name"] for event in work),
        busy=_cover(work, end) / (end - begin) if work else None,
    )


def _cover(events: Sequence[Event], end: float) -> float:
    """Return how much time some events cover together, overlaps once, up to ``end``."""
    covered, until = 0.0, float("-inf")
    for event in sorted(events, key=lambda event: event["ts"]):
        first, last = max(event["ts"], until), min(event["ts"] + event["dur"], end)
        if last > first:
            covered += last - first
            until = last
    return covered
