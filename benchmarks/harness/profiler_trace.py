"""Read the trace of a profiler: how often the host waited, and how busy the GPU was.

A trace is Chrome's JSON, as ``torch.profiler`` exports it. Only the time within a range named
``WINDOW`` counts: the profiler itself waits for the device at its end.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WINDOW = "benchmark steps"

# Calls of the CUDA runtime and driver that block until the device has caught up.
WAITS = {
    "cudaDeviceSynchronize", "cudaStreamSynchronize", "cudaEventSynchronize", "cudaMemcpy",
    "cudaMemcpy2D", "cuCtxSynchronize", "cuStreamSynchronize", "cuEventSynchronize",
}  # fmt: skip
# Operations of PyTorch that copy values to the host, or whose output shapes depend on values.
READS = {"aten::item", "aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero",
         "aten::masked_select", "aten::equal"}  # fmt: skip
PAGEABLE = "Pageable"  # in the name of a copy between host and device: the host blocks on it
DEVICE_WORK = {"kernel", "gpu_memcpy", "gpu_memset"}

Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Waits:
    """Findings in a trace.

    Attributes:
        waits: Calls that wait for the device, by name.
        reads: Operations that read values, by name; on the CPU they wait for nothing.
        pageable: Copies from or to memory that is not page-locked.
        busy: Share of the time in which the device was busy, 0 to 1; ``None`` without a device.
    """

    waits: Mapping[str, int]
    reads: Mapping[str, int]
    pageable: int
    busy: float | None

    @property
    def num_waits(self) -> int:
        """Number of all waiting calls, including copies."""
        return sum(self.waits.values()) + self.pageable


def read_trace(path: Path) -> Waits:
    """Return the findings within a trace's window."""
    return find_waits(json.loads(path.read_text())["traceEvents"])


def find_waits(events: Sequence[Event]) -> Waits:
    """Return the findings within the window of a trace's events.

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
    """Return the time that events cover, counting overlaps once, up to ``end``."""
    covered, until = 0.0, float("-inf")
    for event in sorted(events, key=lambda event: event["ts"]):
        first, last = max(event["ts"], until), min(event["ts"] + event["dur"], end)
        if last > first:
            covered += last - first
            until = last
    return covered
