"""Each of the nine trains from its committed config, and learns to label pixels."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from rsdl.models.catalog import ARCHITECTURES

if TYPE_CHECKING:
    from tests.integration.conftest import Find, Rsdl, Run, Write

pytestmark = pytest.mark.slow

CONFIGS = Path(__file__).parents[2] / "configs"


COPIES = 6  # of each image


def miou_of(run: "Run") -> float:
    return json.loads((run.folder / "report.json").read_text())["metrics"]["miou"]


@pytest.fixture
def blocks(rsdl: "Rsdl", tmp_path: Path) -> str:
    """Return the URL of noisy blocks of three colours: eight images to train, one to test.

    Each is there several times: an epoch writes a checkpoint, and those of the nine are large.
    """
    draw = np.random.default_rng(0)
    colours = np.array([(200, 60, 60), (60, 160, 60), (60, 80, 190)])
    for split, count in (("train", 8), ("test", 1)):
        for number in range(count):
            mask = np.kron(draw.integers(0, 3, (4, 4)), np.ones((16, 16), int))
            image = colours[mask] + draw.normal(0, 25, (64, 64, 3))
            for kind, pixels in (("images", image.clip(0, 255)), ("masks", mask)):
                for copy in range(COPIES):
                    path = tmp_path / kind / split / f"{number}-{copy}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    cv2.imwrite(str(path), pixels.astype(np.uint8))
    packed = rsdl(
        "data", "pack", "masks", "images", "masks", "--classes", "a,b,c", "--out", "blocks"
    )
    assert packed.returncode == 0, packed
    return str(tmp_path / "blocks")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_of_the_nine_labels_pixels_after_a_step_at_256_px_from_its_config(
    name: str, blocks: str, rsdl: "Rsdl", run_at: "Find"
):
    ended = rsdl(
        "train",
        CONFIGS / "segmentation" / f"{name}_loveda.yaml",
        f"data.url={blocks}",
        "model.weights=none",
        "data.image_size=256",
        "data.batch_size=2",
        "data.val_split=null",
        "trainer.max_steps=1",
        "trainer.accelerator=cpu",
    )

    assert ended.returncode == 0, ended.stderr
    record = run_at(f"{name}_loveda").record
    assert record["status"] == "completed" and record["optimizer_steps"] == 1
    assert record["image_size"] == 256 and miou_of(run_at(f"{name}_loveda")) is not None


# Steps, peak learning rate, and whether batch norms keep the statistics that they begin with:
# efficientnet_b5's running ones lag behind so few steps.
SCRATCH = {
    "resnet50": (16, 1e-3, False),
    "resnext101": (16, 1e-3, False),
    "densenet161": (30, 1e-3, False),
    "efficientnet_b5": (18, 1e-3, True),
    "convnext_base": (12, 1e-3, False),
    "vit_base": (16, 3e-4, False),
    "swin_base": (12, 3e-4, False),
    "pvt_v2_b5": (14, 3e-4, False),
    "maxvit_small": (30, 1e-3, False),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_of_the_nine_overfits_eight_images(
    name: str, blocks: str, rsdl: "Rsdl", write_config: "Write", run_at: "Find"
):
    steps, rate, frozen = SCRATCH[name]
    config = write_config(
        name,
        model__name=name,
        task={"name": "segmentation", "head_width": 32, "freeze_norm": frozen},
        data={"url": blocks, "image_size": 64, "batch_size": 8, "val_split": None,
              "test_split": "train", "crop_scale": [1, 1], "crop_ratio": [1, 1]},
        optim={"lr": rate, "warmup_epochs": 2 / COPIES, "weight_decay": 0.01, "clip_grad": 1.0},
        trainer={"accelerator": "cpu", "max_epochs": -(-steps // COPIES), "max_steps": steps},
    )  # fmt: skip

    ended = rsdl("train", config)

    assert ended.returncode == 0, ended.stderr
    record = run_at(name).record
    assert record["optimizer_steps"] == steps
    # Of the network in evaluation mode.
    assert miou_of(run_at(name)) > 0.85


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
