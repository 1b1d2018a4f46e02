"""What a profiler's trace says: a real one of the CPU, and events as CUDA would leave them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.harness.profiler_trace import WINDOW, find_waits, read_trace
from benchmarks.peers.step_task import WARM_STEPS
from benchmarks.trainer.step_timer import TraceClock


def event(name: str, ts: float, dur: float = 1.0, cat: str = "cuda_runtime") -> dict[str, Any]:
    return {"ph": "X", "name": name, "ts": ts, "dur": dur, "cat": cat}


WINDOW_EVENT = event(WINDOW, 100, 100, "user_annotation")


def test_waits_within_the_window_count_and_others_do_not():
    found = find_waits(
        [
            event("cudaDeviceSynchronize", 50),  # before
            WINDOW_EVENT,
            event(WINDOW, 100, 400, "gpu_user_annotation"),  # the device's, which ends later
            event("cudaStreamSynchronize", 110),
            event("cudaStreamSynchronize", 150),
            event("cudaMemcpy", 160),
            event("cudaMemcpyAsync", 161),  # of itself no wait
            event("cudaLaunchKernel", 162),
            event("aten::item", 109, 3, "cpu_op"),
            event("Memcpy HtoD (Pageable -> Device)", 165, 1, "gpu_memcpy"),
            event("Memcpy HtoD (Pinned -> Device)", 166, 1, "gpu_memcpy"),
            event("cudaDeviceSynchronize", 200),  # the profiler's own, at its end
        ]
    )
    assert found.waits == {"cudaStreamSynchronize": 2, "cudaMemcpy": 1}
    assert found.reads == {"aten::item": 1}
    assert found.pageable == 1
    assert found.num_waits == 4


def test_a_device_is_busy_while_any_stream_is():
    work = [(100, 10, "kernel"), (105, 10, "gpu_memcpy"), (106, 2, "kernel"), (190, 50, "kernel")]
    events = [event("x", ts, dur, cat) for ts, dur, cat in work]
    assert find_waits([*events, WINDOW_EVENT]).busy == pytest.approx((15 + 10) / 100)
    assert find_waits([WINDOW_EVENT]).busy is None


def test_a_trace_without_the_window_is_refused():
    with pytest.raises(ValueError, match="no range"):
        find_waits([event("cudaStreamSynchronize", 1)])


def test_a_real_trace_holds_the_steps_that_were_asked_for(tmp_path: Path):
    path, weight = tmp_path / "trace.json", torch.randn(8, 8)
    clock = TraceClock(torch.device("cpu"), path, steps=3)
    for step in range(WARM_STEPS + 10):
        clock.tick()
        total = (weight @ weight).sum()
        if step != WARM_STEPS:  # the first that is watched
            total.item()
    clock.stop()
    found = read_trace(path)
    assert clock.num_steps == 3
    assert found.reads["aten::item"] == 2
    assert found.num_waits == 0 and found.busy is None
    names = {one["name"] for one in json.loads(path.read_text())["traceEvents"]}
    assert "aten::mm" in names


def test_a_turn_of_few_steps_is_watched_to_its_end(tmp_path: Path):
    clock = TraceClock(torch.device("cpu"), tmp_path / "trace.json")
    for _ in range(WARM_STEPS + 2):
        clock.tick()
    clock.stop()
    assert clock.num_steps == 2
    assert read_trace(tmp_path / "trace.json").num_waits == 0
