"""Detection from packed objects to a report, as processes: trained, killed, resumed, evaluated."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import rsdl as api
from rsdl.data.packing.pack import PackOptions, pack
from rsdl.data.sample import Sample
from rsdl.records.detection import DetectionEvaluation
from rsdl.records.evaluation import parse_evaluation
from rsdl.storage.connect import connect
from tests.drawn_objects import DrawnObjects
from tests.integration.conftest import refusal
from tests.integration.worlds import assert_worlds_agree

if TYPE_CHECKING:
    from tests.integration.conftest import Compare, Find, Rsdl, Write

pytestmark = pytest.mark.slow

TASK = {
    "name": "detection", "boxes": "oriented", "levels": [3, 5], "head_width": 32, "head_depth": 1,
    "max_detections": 50, "score_threshold": 0.001,
}  # fmt: skip
FIELDS: dict[str, Any] = {
    "task": TASK,
    "model__name": "test_resnet",
    "data__image_size": 64,
    "data__crop_scale": [0.5, 1],
    "data__crop_ratio": [1, 1],
    "trainer__max_epochs": 2,
}


class DrawnTiles(DrawnObjects):
    """Drawn scenes as four tiles of each of three images, which lie in a row."""

    def read(self, item: tuple[str, int]) -> Sample:
        sample, (split, number) = super().read(item), item
        image, col = divmod(number, 4)
        meta = {"source": f"{split}-{image}.png", "row": 0, "col": col * self.side}
        return sample._replace(meta=meta)


@pytest.fixture
def drawn(tmp_path: Path) -> str:
    """Return the URL of tiles with rectangles at any angle."""
    source: Any = DrawnTiles(count=12, side=64)
    pack(source, connect(str(tmp_path / "drawn")), PackOptions())
    return str(tmp_path / "drawn")


def read_report(folder: Path) -> dict[str, Any]:
    page: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return page


def test_a_run_that_is_killed_ends_as_one_that_is_not(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find", compare_runs: "Compare", drawn: str
):
    fields = FIELDS | {"data__url": drawn, "checkpoint__every_minutes": 1e-4}
    fields |= {"data__crop_on": "foreground", "data__mosaic": 0.5, "data__copy_paste": 0.5}
    once, twice = (write_config(name, **fields) for name in ("once", "twice"))
    assert rsdl("train", once).returncode == 0
    assert rsdl("train", twice, die=120).returncode == -9
    ended = rsdl("train", twice)
    assert ended.returncode == 0 and "resuming" in ended.stdout
    compare_runs(run_at("once"), run_at("twice"))
    whole, resumed = (read_report(run_at(name).folder) for name in ("once", "twice"))
    assert whole["metrics"] == resumed["metrics"] and whole["per_class"] == resumed["per_class"]


def test_two_and_three_processes_train_and_score_as_one(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find", drawn: str
):
    fields = FIELDS | {"data__url": drawn, "data__batch_size": 6, "trainer__max_epochs": 1}
    fields |= {"data__mosaic": 0.5, "data__copy_paste": 0.5}
    assert_worlds_agree(rsdl, write_config, run_at, fields)
    report = read_report(run_at("on3").folder)
    objects = sum(row["support"] for row in report["per_class"])
    assert report["num_samples"] == 12 and report["merged"]["num_images"] == 3
    assert report["merged"]["num_objects"] == objects > 0


def test_a_run_has_a_report_is_exported_and_refuses_what_it_cannot_do(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find", drawn: str, packed: str, tmp_path: Path
):
    fields = FIELDS | {"data__url": drawn, "trainer__max_epochs": 1}
    ended = rsdl("train", write_config("run", **fields))
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    run = run_at("run")
    assert "AP50" in ended.stdout and "val_ap50" in run.rows[-1]
    found = parse_evaluation((run.folder / "report.json").read_bytes(), "report.json")
    assert isinstance(found, DetectionEvaluation)
    assert found.classes == ("square", "van", "ship") and found.num_samples == 12

    turned = rsdl("evaluate", run.folder, "--tta")
    assert turned.returncode == 0, turned
    for kind, name in (("dota", "Task1_ship.txt"), ("coco", "detections-test.json")):
        assert rsdl("evaluate", run.folder, "--export", kind).returncode == 0
        assert list(run.folder.rglob(name)), kind

    written = rsdl("export", run.folder, "--to", "safetensors", "--out", "weights")
    assert written.returncode == 0 and "differ by 0.0e+00 at most" in written.stdout, written
    for kind in ("onnx", "torch", "hf"):
        said = refusal(rsdl("export", run.folder, "--to", kind, "--out", kind))
        assert "has no form for a detector's logits and boxes" in said
    image = np.zeros((64, 64, 3), np.uint8)
    ours, theirs = (
        api.load(str(each)).predict(image) for each in (run.folder, tmp_path / "weights")
    )
    assert ours.labels == theirs.labels

    def refused(**changes: object) -> str:
        return refusal(rsdl("train", write_config("other", **(fields | changes))))

    assert 'needs targets of kind "objects", the data set at' in refused(data__url=packed)
    assert "set task.name=detection" in refused(task={"name": "classification"})
    assert "crop_ratio" in refused(data__crop_ratio=[0.5, 2])
    assert "mix" in refused(augment={"mixup": 0.2})
