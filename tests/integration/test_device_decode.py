"""Training with JPEGs decoded on the device, here the processor: killed, resumed, by two ranks."""

import os
import random
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from rsdl.config.data import DataConfig
from rsdl.data.dataset import DataSet
from tests.integration.closeness import assert_close
from tests.integration.damage import spoil

if TYPE_CHECKING:
    from tests.integration.conftest import Compare, Find, Rsdl, Run, Write

pytestmark = pytest.mark.slow

DEVICE = {"data__decode": "device", "data__tail": "pad", "checkpoint__every_minutes": 1e-4}


def losses(run: "Run") -> list[float]:
    return [float(row["train_loss"]) for row in run.rows if row["train_loss"]]


def test_killed_at_any_moment_a_run_ends_bit_equal(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find", compare_runs: "Compare", packed: str
):
    spoil(packed, 4)
    fields: dict[str, Any] = DEVICE | {
        "trainer__accumulate": 2,
        "data__on_corrupt": "skip",
        "augment": {"mixup": 0.2, "cutmix": 1.0},
        "data__batch_size": 8,
    }
    whole, killed = write_config("whole", **fields), write_config("killed", **fields)
    ended = rsdl("train", whole)
    assert ended.returncode == 0, ended.stderr
    assert "data.decode: the device is a processor, on which host is faster" in ended.stderr
    record = run_at("whole").record
    assert [(e["delivered"], e["skipped"], e["balanced"]) for e in record["ledger"]] == [
        (17, 1, True)
    ] * 3

    moments, deaths = random.Random(1), 0
    while deaths < 6:
        deaths += rsdl.train_through_deaths(killed, moments, (20, 110), limit=100 - deaths)
        compare_runs(run_at("whole"), run_at("killed"))


def test_it_learns_what_the_host_decodes(rsdl: "Rsdl", write_config: "Write", run_at: "Find"):
    assert rsdl("train", write_config("host", **DEVICE), "data.decode=host").returncode == 0
    assert rsdl("train", write_config("device", **DEVICE)).returncode == 0
    host, device = run_at("host"), run_at("device")
    fates = [{k: v for k, v in e.items() if "bytes" not in k} for e in host.record["ledger"]]
    assert [
        {k: v for k, v in e.items() if "bytes" not in k} for e in device.record["ledger"]
    ] == fates
    # Pixels differ by a grey level here and there, and steps add that up.
    assert losses(device) == pytest.approx(losses(host), rel=0.05)


def test_two_processes_do_what_one_does(rsdl: "Rsdl", write_config: "Write", run_at: "Find"):
    # No batch norm, no dropout: what may differ is the order in which floats are added.
    fields = DEVICE | {"model__name": "test_vit", "data__batch_size": 8}
    assert rsdl("train", write_config("one", **fields)).returncode == 0
    config = write_config("two", **fields)
    command = [sys.executable, "-m", "rsdl", "train", str(config), "trainer.devices=2"]
    ended = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("the device is a processor") == 1
    one, two = run_at("one"), run_at("two")
    assert two.record["ledger"] == one.record["ledger"] and two.record["device_count"] == 2
    assert_close(one.rows, two.rows)


def test_a_run_may_go_on_with_the_other_decoder(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find"
):
    config = write_config("run", **DEVICE)
    assert rsdl("train", config, die=60).returncode == -signal.SIGKILL
    ended = rsdl("train", config, "data.decode=host")
    assert ended.returncode == 0, ended.stderr
    assert "data.decode" not in ended.stderr
    assert all(entry["balanced"] for entry in run_at("run").record["ledger"])


def test_a_corrupt_sample_is_named_in_one_line(rsdl: "Rsdl", write_config: "Write", packed: str):
    spoil(packed, 4)
    ended = rsdl("train", write_config("run", **DEVICE))
    assert ended.returncode == 2
    name = DataSet(DataConfig(url=packed)).split("train", "").index.name(4)
    assert ended.stderr.splitlines()[-1].startswith(f"{name}: ")
    assert "pass data.on_corrupt=skip" in ended.stderr


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data.decode=gpu", "data.decode: input should be 'host' or 'device'"),
        ("data.decode_size=64", "data: decode=device decodes whole images, decode_size less of"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    override: str, said: str, rsdl: "Rsdl", write_config: "Write"
):
    ended = rsdl("train", write_config("run", **DEVICE), override)
    assert ended.returncode == 2
    assert ended.stderr.startswith(said), ended.stderr
