"""Each of the nine trains from its committed config, on the published image size."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rsdl.models.catalog import ARCHITECTURES

if TYPE_CHECKING:
    from tests.integration.conftest import Find, Rsdl

pytestmark = pytest.mark.slow

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_of_the_nine_labels_pixels_after_a_step_from_its_config(
    name: str, masks: str, rsdl: "Rsdl", run_at: "Find"
):
    ended = rsdl(
        "train",
        CONFIGS / "segmentation" / f"{name}_loveda.yaml",
        f"data.url={masks}",
        "model.weights=none",
        "data.image_size=128",
        "data.batch_size=2",
        "trainer.max_steps=1",
        "trainer.accelerator=cpu",
    )

    assert ended.returncode == 0, ended.stderr
    record = run_at(f"{name}_loveda").record
    assert record["status"] == "completed" and record["optimizer_steps"] == 1
    assert record["metrics"]["final"]["miou"] is not None


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_of_the_nine_makes_a_step_from_its_config(
    name: str, packed: str, rsdl: "Rsdl", tmp_path: Path
):
    ended = rsdl(
        "train",
        CONFIGS / f"{name}_ucm.yaml",
        f"data.url={packed}",
        "model.weights=none",  # a test needs no hub
        "data.batch_size=2",
        "trainer.max_steps=1",
    )

    assert ended.returncode == 0, ended.stderr
    run = tmp_path / "runs" / f"{name}_ucm"
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "completed"
    assert record["optimizer_steps"] == 1 and record["samples_read"] == 2
    assert record["image_size"] == 224
    assert record["metrics"]["final"]["oa"] is not None
    assert (run / "report.html").stat().st_size > 10_000
