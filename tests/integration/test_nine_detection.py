"""Each of the nine finds objects after a step from its config; a small network learns to."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rsdl.data.packing.pack import pack
from rsdl.data.packing.shard import PackOptions
from rsdl.models.catalog import ARCHITECTURES
from rsdl.storage.connect import connect
from tests.drawn_objects import DrawnObjects

if TYPE_CHECKING:
    from tests.integration.conftest import Find, Rsdl, Write

pytestmark = pytest.mark.slow

Require = Callable[[str, bool], None]

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the URL of eight images of rectangles at any angle, the same in both splits."""
    url = str(tmp_path_factory.mktemp("drawn"))
    pack(DrawnObjects(8, 128, ("train", "test")), connect(url), PackOptions(num_workers=1))
    return url


@pytest.mark.parametrize("dataset", ["dota", "xview"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_of_the_nine_detects_after_an_oriented_and_an_aligned_step_from_its_config(
    name: str, dataset: str, drawn: str, rsdl: "Rsdl", run_at: "Find"
):
    ended = rsdl(
        "train",
        CONFIGS / "detection" / f"{name}_{dataset}.yaml",
        f"data.url={drawn}",
        "model.weights=none",
        "data.image_size=128",
        "data.batch_size=2",
        "data.val_split=null",
        "trainer.max_steps=1",
        "trainer.accelerator=cpu",
    )

    assert ended.returncode == 0, ended.stderr
    run = run_at(f"{name}_{dataset}")
    assert run.record["status"] == "completed" and run.record["optimizer_steps"] == 1
    assert run.record["boxes"] == ("oriented" if dataset == "dota" else "aligned")
    report = json.loads((run.folder / "report.json").read_text())
    assert report["num_samples"] == 8 and 0 < report["metrics"]["loss"] < 1000


@pytest.mark.parametrize("name", ["resnet50", "vit_base", "swin_base", "pvt_v2_b5"])
def test_four_of_the_nine_find_the_turned_objects_of_eight_images_that_they_have_seen(
    name: str, rsdl: "Rsdl", write_config: "Write", run_at: "Find", tmp_path: Path, require: Require
):
    require("patience", "RSDL_TEST_PATIENCE" in os.environ)
    url = str(tmp_path / "small")
    pack(DrawnObjects(8, 96, ("train", "test")), connect(url), PackOptions(num_workers=1))
    config = write_config(
        name,
        model__name=name,
        **seen_again(url, "oriented", 96),
        optim={"lr": 1e-3 if name == "resnet50" else 3e-4, "warmup_epochs": 5,
               "weight_decay": 0.01, "clip_grad": 10.0},
    )  # fmt: skip

    ended = rsdl("train", config)

    assert ended.returncode == 0, ended.stderr
    metrics = json.loads((run_at(name).folder / "report.json").read_text())["metrics"]
    assert metrics["ap50"] > 0.9


@pytest.mark.parametrize("boxes", ["aligned", "oriented"])
def test_a_small_network_finds_the_objects_of_eight_images_that_it_has_seen(
    boxes: str, drawn: str, rsdl: "Rsdl", write_config: "Write", run_at: "Find"
):
    config = write_config(
        "finds",
        model__name="test_resnet",
        **seen_again(drawn, boxes, 128),
        optim={"lr": 2e-3, "warmup_epochs": 5, "weight_decay": 0.01, "clip_grad": 10.0},
    )

    ended = rsdl("train", config)

    assert ended.returncode == 0, ended.stderr
    metrics = json.loads((run_at("finds").folder / "report.json").read_text())["metrics"]
    assert metrics["ap50"] > 0.9


def seen_again(url: str, boxes: str, side: int) -> dict[str, object]:
    """Return the fields of a run that sees the same images in every step."""
    return {
        "task": {"name": "detection", "boxes": boxes, "head_width": 64, "levels": [2, 5]},
        "data": {"url": url, "image_size": side, "batch_size": 8, "val_split": None,
                 "crop_scale": [1, 1], "crop_ratio": [1, 1]},
        "augment": {"flip": False, "rotate90": False},
        "trainer": {"accelerator": "cpu", "max_epochs": 80},
    }  # fmt: skip
