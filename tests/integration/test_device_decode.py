"""Training with JPEGs decoded on the device, here the processor: learned from, and gone on from."""

import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.conftest import Find, Rsdl, Run, Write

pytestmark = pytest.mark.slow

DEVICE = {"data__decode": "device", "data__tail": "pad", "checkpoint__every_minutes": 1e-4}


def losses(run: "Run") -> list[float]:
    return [float(row["train_loss"]) for row in run.rows if row["train_loss"]]


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


def test_a_run_may_go_on_with_the_other_decoder(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find"
):
    config = write_config("run", **DEVICE)
    assert rsdl("train", config, die=60).returncode == -signal.SIGKILL
    ended = rsdl("train", config, "data.decode=host")
    assert ended.returncode == 0, ended.stderr
    assert "data.decode" not in ended.stderr
    assert all(entry["balanced"] for entry in run_at("run").record["ledger"])


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
