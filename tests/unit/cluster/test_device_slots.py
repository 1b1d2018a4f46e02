"""Places on this machine, and processes that never outlive who started them."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from rsdl.cluster.device_slots import (
    DeviceSlot,
    find_slots,
    last_log_line,
    lock_run,
    log_of,
    start_run,
    state_folder,
)
from rsdl.core.errors import ConfigError
from rsdl.core.resources import usable_cores
from rsdl.storage.connect import connect
from tests.waiting import wait_for


def test_processors_are_shared_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RSDL_CORES", "2")
    cores = usable_cores()
    assert cores <= 2
    assert find_slots(1, 0) == [DeviceSlot("CPU 0", None, cores)]
    assert [slot.cores for slot in find_slots(5, 0)] == [1] * 5


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [(None, ["0", "1"]), ("3, 5,7", ["3", "5"]), ("MIG-a,MIG-b", ["MIG-a", "MIG-b"])],
)
def test_each_place_has_a_gpu(
    visible: str | None, gpus: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [slot.gpu for slot in find_slots(2, 3)] == gpus


def test_more_places_than_gpus_are_refused():
    with pytest.raises(ConfigError, match="--devices: is 4, there are 3 GPUs here"):
        find_slots(4, 3)


def test_a_run_is_told_its_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    lock, log = lock_run(tmp_path, "run"), tmp_path / "log"
    assert lock is not None
    process = start_run(
        [sys.executable, "-m", "rsdl", "--version"], DeviceSlot("GPU 3", "3", 2), log, lock
    )
    environment = ""

    def look() -> bool:
        nonlocal environment
        environment = Path(f"/proc/{process.pid}/environ").read_text()
        return "RSDL_CORES" in environment or process.poll() is not None

    wait_for(look)
    told = dict(line.partition("=")[::2] for line in environment.split("\0"))
    assert (told["CUDA_VISIBLE_DEVICES"], told["RSDL_CORES"]) == ("3", "2")
    assert told["OMP_NUM_THREADS"] == "2"
    assert process.wait() == 0
    assert "rsdl" in log.read_text()


# Stands for a sweep: starts a run that takes long, says its number, and waits to be killed.
SWEEP = """
import sys, time
from pathlib import Path
from rsdl.cluster.device_slots import DeviceSlot, lock_run, start_run
state = Path(sys.argv[1])
lock = lock_run(state, "run")
process = start_run(sys.argv[2:], DeviceSlot("CPU 0", None, 1), state / "log", lock)
print(process.pid, flush=True)
time.sleep(600)
"""

# Stands for a run: takes a while to save when it is told to end.
RUN = """
import signal, sys, time
from pathlib import Path
def save(number, frame):
    time.sleep(0.3)
    Path(sys.argv[2]).touch()
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
Path(sys.argv[1]).touch()
time.sleep(600)
"""


def test_a_run_ends_with_the_sweep_and_keeps_its_lock_until_it_has_saved(tmp_path: Path):
    ready, saved = tmp_path / "ready", tmp_path / "saved"
    run = [sys.executable, "-c", RUN, str(ready), str(saved)]
    sweep = subprocess.Popen(
        [sys.executable, "-c", SWEEP, str(tmp_path), *run], stdout=subprocess.PIPE, text=True
    )
    assert sweep.stdout is not None
    pid = int(sweep.stdout.readline())
    try:
        wait_for(ready.exists)
        assert lock_run(tmp_path, "run") is None
        sweep.kill()
        sweep.wait()
        sweep.stdout.close()
        # Whoever comes next gets the lock when the run has saved, and not before.
        while (lock := lock_run(tmp_path, "run")) is None:
            time.sleep(0.001)
        assert saved.exists()
        os.close(lock)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_run_whose_sweep_is_gone_before_it_begins_does_not_begin():
    done = subprocess.run(
        [sys.executable, "-m", "rsdl.cluster.pdeathsig", "1", "echo", "here"], capture_output=True
    )
    assert (done.returncode, done.stdout) == (75, b"")


def test_locks_of_a_bucket_lie_on_this_machine(tmp_path: Path):
    assert state_folder(connect(str(tmp_path))) == tmp_path / ".sweep"
    one, other = (state_folder(connect(f"s3://bucket/{name}")) for name in ("a", "b"))
    assert one != other
    assert one.is_relative_to(os.environ["RSDL_CACHE"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ""),
        ("one\ntwo\n\n", "two"),
        (
            "crash: ValueError: x\nrun it again with --debug for the traceback\n",
            "crash: ValueError: x",
        ),
    ],
)
def test_the_last_words_of_a_log(text: str, words: str, tmp_path: Path):
    assert last_log_line(log_of(tmp_path, "run")) == ""
    log_of(tmp_path, "run").write_text(text)
    assert last_log_line(log_of(tmp_path, "run")) == words
