"""Asked to stop before its first step, a command ends with 75 in one line."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.conftest import Find, Write

pytestmark = pytest.mark.slow

SLURM = {
    "SLURM_JOB_ID": "1", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2",
    "SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_STEP_NODELIST": "localhost",
}  # fmt: skip


def start(config: Path, told: dict[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "rsdl", "train", str(config)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=config.parent,
        env=os.environ | told,
    )  # fmt: skip


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.mark.parametrize(
    ("rank", "after_s"), [("0", 1.0), ("0", 12.0), ("1", 12.0)], ids=["imports", "first", "second"]
)
def test_sigterm_in_rendezvous_or_set_up_ends_with_75(
    rank: str, after_s: float, write_config: "Write"
):
    told = {"RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    process = start(write_config("run"), told | {"MASTER_PORT": free_port()})
    time.sleep(after_s)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 75, stderr
    assert stderr == "run: stopped by SIGTERM before the first step; run it again to go on\n"


@pytest.mark.parametrize("launcher", ["pytorchjob", "srun"])
def test_two_processes_that_a_launcher_starts_train_one_run(
    launcher: str, write_config: "Write", run_at: "Find"
):
    config = write_config("run", trainer__max_epochs=1, data__batch_size=18)
    point = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    told = [{"RANK": str(rank), "WORLD_SIZE": "2"} for rank in range(2)]
    if launcher == "srun":
        told = [SLURM | {"SLURM_PROCID": str(r), "SLURM_LOCALID": str(r)} for r in range(2)]
    processes = [start(config, point | each) for each in told]
    for process in processes:
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr
    record = run_at("run").record
    assert (record["status"], record["device_count"]) == ("completed", 2)
