"""Reading the memory of a run, and judging it."""

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.harness.worker_process import descendants
from benchmarks.trainer.memory import Samples, epochs_completed, read_memory, series, spread


def test_memory_of_children_is_counted() -> None:
    alone = read_memory(os.getpid())
    code = "x = bytearray(64 << 20); print('ready', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert child.pid in descendants(os.getpid())
        both = read_memory(os.getpid())
        child.communicate(b"\n")
    assert both["Anonymous"] > alone["Anonymous"] + (48 << 20)


def test_epochs_that_warm_up_and_what_comes_after_are_left_out() -> None:
    samples: Samples = {
        epoch: [{"Rss": rss * 10**6}, {"Rss": rss * 10**6}, {"Rss": 10**12}]
        for epoch, rss in enumerate([10, 90, 100, 102, 101, 50])
    }
    values = series(samples, "Rss")
    assert values == [100, 102, 101]
    assert spread(values) == 1.02


def test_a_run_that_has_not_written_yet_has_no_epoch(tmp_path: Path) -> None:
    assert epochs_completed(tmp_path / "run.json") is None
    (tmp_path / "run.json").write_text('{"epochs_completed": 3}')
    assert epochs_completed(tmp_path / "run.json") == 3
