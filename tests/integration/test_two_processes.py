"""Two processes over gloo do what one does: the same batches, the same losses, the same scores."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.closeness import assert_close
from tests.waiting import wait_for

if TYPE_CHECKING:
    from tests.integration.conftest import Find, Rsdl, Write

pytestmark = pytest.mark.slow

LIMIT_S = 600.0

# No batch norm, no dropout: what is left of a difference is the order in which floats are added.
FIELDS = {
    "model__name": "test_vit",
    "data__batch_size": 8,
    "data__tail": "pad",
    "augment": {"mixup": 0.2},
    "optim__ema_decay": 0.9,
}


def begin(command: list[str], folder: Path) -> "subprocess.Popen[bytes]":
    """Start a command whose words on stdout and stderr go to a file ``log``."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment)


def end(
    process: "subprocess.Popen[bytes]", folder: Path, limit_s: float = LIMIT_S
) -> tuple[int, str]:
    """Wait for a command; return its exit code and what it said."""
    try:
        code = process.wait(limit_s)
    finally:
        process.kill()
    return code, (folder / "log").read_text()


def test_two_processes_stop_resume_and_score_as_one(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find", tmp_path: Path
):
    fields = FIELDS | {"trainer__max_epochs": 12}
    assert rsdl("train", write_config("one", **fields)).returncode == 0
    config = write_config("two", **fields)
    command = [sys.executable, "-m", "rsdl", "train", str(config), "trainer.devices=2"]

    # Asked to stop by a signal to the process that has started the others, all stop.
    process = begin(command, tmp_path)
    run = run_at("two")
    limit = time.monotonic() + LIMIT_S
    while not (tmp_path / "log").read_text().count("epoch"):
        assert process.poll() is None and time.monotonic() < limit, (tmp_path / "log").read_text()
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    code, said = end(process, tmp_path)
    assert code == 75, said
    assert run.record["status"] == "preempted" and "Traceback" not in said

    code, said = end(begin(command, tmp_path), tmp_path)
    assert code == 0, said
    assert "warning" not in said.lower()
    record = run.record
    assert record["status"] == "completed" and record["device_count"] == 2
    # It was stopped after saving, so that nothing is read twice.
    assert record["samples_read"] == sum(entry["delivered"] for entry in record["ledger"])
    assert record["ledger"] == run_at("one").record["ledger"]
    assert_close(run_at("one").rows, run.rows)

    # One process scores the same weights as two did, to the last digit.
    by_two = json.loads((run.folder / "report.json").read_text())
    assert rsdl("evaluate", run.folder).returncode == 0
    by_one = json.loads((run.folder / "report.json").read_text())
    for key in ("num_samples", "confusion", "per_class"):
        assert by_one[key] == by_two[key]
    for name in ("oa", "kappa", "macro_f1", "balanced_accuracy", "top5"):
        assert by_one["metrics"][name] == by_two["metrics"][name]
    assert [m["key"] for m in by_one["uncertain"]] == [m["key"] for m in by_two["uncertain"]]


def test_torchrun_starts_the_processes_as_well(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find", tmp_path: Path
):
    fields = FIELDS | {"trainer__max_epochs": 2}
    assert rsdl("train", write_config("one", **fields)).returncode == 0
    config = write_config("two", **fields)
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    command = [sys.executable, "-m", *launcher, "rsdl", "train", str(config), "trainer.devices=2"]
    code, said = end(begin(command, tmp_path), tmp_path)
    assert code == 0, said
    assert said.count("report:") == 1
    assert run_at("two").record["ledger"] == run_at("one").record["ledger"]
    assert_close(run_at("one").rows, run_at("two").rows)
    # Completed is completed, whoever looks.
    code, said = end(begin(command, tmp_path), tmp_path)
    assert (code, said.count("is completed")) == (0, 1)


def test_ranks_whose_launcher_is_killed_save_and_end(
    write_config: "Write", run_at: "Find", tmp_path: Path
):
    config = write_config("two", **FIELDS | {"trainer__max_epochs": 400})
    command = [sys.executable, "-m", "rsdl", "train", str(config), "trainer.devices=2"]
    process = begin(command, tmp_path)
    wait_for(lambda: "epoch" in (tmp_path / "log").read_text(), LIMIT_S)
    process.kill()
    process.wait()
    wait_for(lambda: run_at("two").record["status"] == "preempted", 60)
    record = run_at("two").record
    assert run_at("two").load()["rsdl"]["position"]["step"] == record["optimizer_steps"]


def test_samples_are_counted_where_the_ranks_shares_differ(
    write_config: "Write", run_at: "Find", packed: str, tmp_path: Path
):
    """A corrupt sample is skipped by one rank alone: twice what the first has read is wrong."""
    shard = sorted(Path(packed).glob("train*.tar"))[0]
    content = bytearray(shard.read_bytes())
    start = content.index(b"\xff\xd8\xff")
    content[start : start + 64] = bytes(64)
    shard.write_bytes(content)
    config = write_config("two", **FIELDS | {"trainer__max_epochs": 3, "data__on_corrupt": "skip"})
    command = [sys.executable, "-m", "rsdl", "train", str(config), "trainer.devices=2"]
    code, said = end(begin(command, tmp_path), tmp_path)
    assert code == 0, said
    record = run_at("two").record
    assert [(e["delivered"], e["skipped"]) for e in record["ledger"]] == [(17, 1)] * 3
    assert record["samples_read"] == 3 * 17  # odd: no multiple of two ranks


def test_a_second_head_of_segmentation_learns_alike_on_two_processes(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find", masks: str, tmp_path: Path
):
    task = {"name": "segmentation", "head_width": 32, "auxiliary_weight": 0.4}
    fields = {"data__url": masks, "data__batch_size": 8, "data__tail": "pad", "task": task,
              "model__name": "test_vit", "trainer__max_epochs": 2}  # fmt: skip
    # A micro-batch has the dropout of a rank.
    assert rsdl("train", write_config("one", **fields), "trainer.accumulate=2").returncode == 0
    config = write_config("two", **fields)
    command = [sys.executable, "-m", "rsdl", "train", str(config), "trainer.devices=2"]
    code, said = end(begin(command, tmp_path), tmp_path)
    assert code == 0 and "warning" not in said.lower(), said
    assert_close(run_at("one").rows, run_at("two").rows)
    one, two = (run_at(name).record["metrics"]["final"]["miou"] for name in ("one", "two"))
    assert one == pytest.approx(two, abs=1e-3)
