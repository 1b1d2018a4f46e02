"""A run's folder has one owner at a time."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rsdl.storage.connect import connect
from rsdl.train.owner import OwnedError, own

HOLD = """
import sys, time
from rsdl.core.errors import RsdlError
from rsdl.storage.connect import connect
from rsdl.train.owner import own
try:
    owner = own(connect(sys.argv[1]))
except RsdlError as error:
    print(error, flush=True)
    sys.exit(error.exit_code)
print("owns", flush=True)
time.sleep(60)
"""


def start(folder: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", HOLD, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def hear(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def move_away(folder: Path) -> Path:
    """Let the owner be on another host."""
    path = max((folder / ".owner").iterdir())
    path.write_text(json.dumps(json.loads(path.read_text()) | {"place": "far", "host": "far"}))
    return path


def test_of_several_at_once_one_owns_and_the_others_name_it(tmp_path: Path):
    processes = [start(tmp_path) for _ in range(3)]
    said = sorted(hear(process) for process in processes)
    assert [line == "owns" for line in said] == [False, False, True]
    assert all("is being trained by" in line for line in said[:2])
    for process in processes:
        process.kill()
        process.communicate()


def test_a_killed_owner_is_followed_at_once_and_a_stopped_one_is_not(tmp_path: Path):
    with start(tmp_path) as process:
        assert hear(process) == "owns"
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(OwnedError, match=f":{process.pid} since .*; stop that one"):
            own(connect(str(tmp_path)))
        process.kill()
        process.wait()
    own(connect(str(tmp_path))).release()


def test_a_released_folder_is_free(tmp_path: Path):
    store = connect(str(tmp_path))
    for _ in range(3):
        own(store).release()
    assert len(list((tmp_path / ".owner").iterdir())) == 1


def test_another_hosts_owner_is_waited_for_and_its_beat_refuses(tmp_path: Path):
    store = connect(str(tmp_path))
    first = own(store, beat_s=0.05)
    first._page |= {"place": "far", "host": "far"}
    first._write(first._page)
    with pytest.raises(OwnedError, match="is being trained by far:"):
        own(store, patience_s=2)
    first.release()


def test_another_hosts_owner_that_is_silent_is_replaced_and_hears_of_it(tmp_path: Path):
    store = connect(str(tmp_path))
    first = own(store)
    move_away(tmp_path)
    second = own(store, patience_s=0.3)
    second.check()
    with pytest.raises(OwnedError, match=f"was taken over by .*:{os.getpid()}"):
        first.check()
    first.release()
    second.check()
    second.release()


def test_the_next_attempt_of_an_elastic_run_does_not_wait_for_a_host_that_was_lost(tmp_path: Path):
    store = connect(str(tmp_path))
    first = own(store, run="nodes-1")
    move_away(tmp_path)
    second = own(store, run="nodes-1", patience_s=600)
    with pytest.raises(OwnedError, match="was taken over"):
        first.check()
    first.release()
    second.release()
