"""Training from the device's memory: killed, resumed, and on from files."""

import random
import signal
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.unit.data.batches import damage

if TYPE_CHECKING:
    from tests.integration.conftest import Compare, Find, Rsdl, Run, Write

pytestmark = pytest.mark.slow

RESIDENT = {"data__resident": "on", "data__tail": "pad", "checkpoint__every_minutes": 1e-4}


def forget_bytes(run: "Run") -> None:
    """Take what was read out of checkpoints: a killed run has truly read the split again."""
    for name in ("last", "best"):
        content = run.load(name)
        content.get("rsdl", {}).get("tally", {}).update(encoded_bytes=0, decoded_bytes=0)
        path = run.folder / "checkpoints" / f"{name}.ckpt"
        torch.save(content, path.with_suffix(".new"))  # what was loaded is mapped to the file
        path.with_suffix(".new").rename(path)


def test_killed_at_any_moment_a_resident_run_ends_bit_equal(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find", compare_runs: "Compare", packed: str
):
    damage(packed, 4)
    fields: dict[str, Any] = RESIDENT | {
        "trainer__accumulate": 2,
        "data__on_corrupt": "skip",
        "augment": {"mixup": 0.2, "cutmix": 1.0},
        "data__batch_size": 8,
    }
    whole, killed = write_config("whole", **fields), write_config("killed", **fields)
    ended = rsdl("train", whole)
    assert ended.returncode == 0, ended.stderr
    assert "loading 18 images (0.00 GB) onto cpu" in ended.stderr
    record = run_at("whole").record
    assert [(e["delivered"], e["skipped"], e["balanced"]) for e in record["ledger"]] == [
        (17, 1, True)
    ] * 3
    assert record["bytes_decoded"] == 17 * 40 * 48 * 3

    moments, deaths = random.Random(1), 0
    while deaths < 6:
        # Loading alone takes some 40 reads.
        deaths += rsdl.train_through_deaths(killed, moments, (30, 150), limit=100 - deaths)
        forget_bytes(run_at("whole"))
        forget_bytes(run_at("killed"))
        compare_runs(run_at("whole"), run_at("killed"))


def test_a_run_may_go_on_in_another_tier(rsdl: "Rsdl", write_config: "Write", run_at: "Find"):
    config = write_config("run", **RESIDENT)
    assert rsdl("train", config, die=120).returncode == -signal.SIGKILL
    ended = rsdl("train", config, "data.resident=off")
    assert ended.returncode == 0, ended.stderr
    assert "loading" not in ended.stderr
    assert all(entry["balanced"] for entry in run_at("run").record["ledger"])


def test_another_word_is_refused_in_one_line(rsdl: "Rsdl", write_config: "Write"):
    ended = rsdl("train", write_config("run"), "data.resident=always")
    assert ended.returncode == 2
    assert ended.stderr.startswith("data.resident: input should be 'auto', 'off' or 'on'")
