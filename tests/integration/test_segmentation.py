"""Segmentation from scenes to a report, as processes: trained, killed, resumed, evaluated."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import rsdl as api
from rsdl.records.evaluation import SegmentationEvaluation, parse_evaluation
from tests.integration.conftest import refusal
from tests.integration.worlds import assert_worlds_agree

if TYPE_CHECKING:
    from tests.integration.conftest import Compare, Find, Rsdl, Write

pytestmark = pytest.mark.slow

Require = Callable[[str, bool], None]

FIELDS = {
    "task": {"name": "segmentation", "losses": {"cross_entropy": 1.0, "dice": 0.5}},
    "model__name": "test_resnet",
    "data__batch_size": 8,
    "data__image_size": 64,
    "trainer__max_epochs": 2,
}


def test_scenes_become_a_network_that_labels_pixels_and_a_report(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find", masks: str
):
    config = write_config("run", data__url=masks, **FIELDS)
    ended = rsdl("train", config)
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    run = run_at("run")
    assert run.record["task"] == "segmentation" and run.record["status"] == "completed"
    assert "mIoU" in ended.stdout and "val_miou" in run.rows[-1]
    found = parse_evaluation((run.folder / "report.json").read_bytes(), "report.json")
    assert isinstance(found, SegmentationEvaluation)
    assert found.num_pixels == sum(map(sum, found.confusion)) > 0
    # Chance is one of ten classes.
    assert found.metrics["miou"] is not None and found.metrics["miou"] > 0.15
    assert {shown.rank for shown in found.overlays} == {"best", "median", "worst"}
    page = (run.folder / "report.html").read_text()
    assert "Mean IoU (test)" in page and page.count('alt="prediction of') == len(found.overlays)

    turned = rsdl("evaluate", run.folder, "--tta")
    assert turned.returncode == 0, turned
    merged = json.loads((run.folder / "report-tta.json").read_text())
    assert merged["num_pixels"] == found.num_pixels and merged["metrics"] != found.metrics
    assert "with TTA (test)" in (run.folder / "report.html").read_text()

    # A window sees a tile of the data set whole: nothing is blended, and all numbers are equal.
    whole = rsdl("evaluate", run.folder, "--windows")
    assert whole.returncode == 0 and "whole images, windows of" in whole.stdout, whole
    seen = json.loads((run.folder / "report.json").read_text())
    assert found.windows is None and seen["windows"] == [64, 64]
    assert seen["confusion"] == json.loads(found.model_dump_json())["confusion"]
    assert "by overlapping windows" in (run.folder / "report.html").read_text()
    scenes = {row["name"]: row["num_samples"] for row in seen["scenes"]}
    assert len(scenes) == seen["num_scenes"] == 1 and sum(scenes.values()) == found.num_samples
    assert rsdl("data", "info", masks, "--sheet", "sheet.png").returncode == 0
    said = refusal(rsdl("export", run.folder, "--to", "hf", "--out", "weights"))
    assert "--to: timm has no segmentation network" in said
    said = refusal(rsdl("evaluate", run.folder, "--export", "coco"))
    assert "--export: is for detections, and the task of run is segmentation" in said
    study = rsdl("report", run.folder.parent, "--out", "study.html")
    assert study.returncode == 0, study


def test_a_decoder_of_smp_is_evaluated_mapped_and_exported_without_the_second_head(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find", masks: str, require: Require
):
    require("smp", find_spec("segmentation_models_pytorch") is not None)
    require("onnx", find_spec("onnxruntime") is not None)
    task = {"name": "segmentation", "head": "smp/unet", "head_width": 32, "auxiliary_weight": 0.4,
            "freeze_norm": True}  # fmt: skip
    fields = FIELDS | {"data__url": masks, "task": task}
    ended = rsdl("train", write_config("run", **fields))
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    run = run_at("run")
    state = torch.load(run.folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    means = {name: each for name, each in state.items() if name.endswith("running_mean")}
    kept = {name for name, each in means.items() if not each.any()}
    assert kept == {name for name in means if name.startswith("model.backbone.")}
    assert rsdl("evaluate", run.folder).returncode == 0
    assert rsdl("predict", run.folder, "scenes", "--out", "maps").returncode == 0
    for to in ("safetensors", "onnx", "torch"):
        said = rsdl("export", run.folder, "--to", to, "--out", to, "--samples", 4)
        assert said.returncode == 0 and "4 of 4 classes" in said.stdout, said
    where = run.folder.parents[1]
    tensors = load_file(where / "safetensors/model.safetensors")
    assert not [name for name in tensors if "auxiliary" in name]
    graph = torch.export.load(where / "torch/model.pt2")
    assert not [name for name in graph.state_dict if "auxiliary" in name]
    assert "timm.create_model" not in (where / "safetensors/README.md").read_text()
    images = np.zeros((3, 64, 64), np.uint8)
    ours, theirs = (
        api.load(str(each)).predict(images) for each in (run.folder, where / "safetensors")
    )
    assert torch.equal(ours.probabilities, theirs.probabilities)


def test_a_run_that_is_killed_ends_as_one_that_is_not(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find", compare_runs: "Compare", masks: str
):
    fields = FIELDS | {"data__url": masks, "checkpoint__every_minutes": 1e-4}
    fields |= {"data__sampling": "balanced", "data__crop_on": "foreground"}
    once, twice = (write_config(name, **fields) for name in ("once", "twice"))
    assert rsdl("train", once).returncode == 0
    assert rsdl("train", twice, die=160).returncode == -9
    ended = rsdl("train", twice)
    assert ended.returncode == 0 and "resuming" in ended.stdout
    compare_runs(run_at("once"), run_at("twice"))


def test_two_and_three_processes_train_and_score_as_one(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find", masks: str
):
    fields = FIELDS | {
        "data__url": masks,
        "data__image_size": 32,
        "data__batch_size": 6,
        "data__tail": "pad",
        "trainer__max_epochs": 1,
    }
    assert_worlds_agree(rsdl, write_config, run_at, fields)


def test_what_segmentation_cannot_do_is_one_line(
    rsdl: "Rsdl", write_config: "Write", packed: str, masks: str
):
    def refused(**fields: object) -> str:
        return refusal(
            rsdl("train", write_config("run", **({"data__url": masks} | FIELDS | fields)))
        )

    assert 'needs targets of kind "mask", the data set at' in refused(data__url=packed)
    assert "set task.name=segmentation" in refused(task={"name": "classification"})
    assert "augment: mixes images, and segmentation cannot mix" in refused(augment={"mixup": 0.2})
    crop = {"data__url": packed, "data__crop_on": "foreground", "task": {"name": "classification"}}
    assert "data.crop_on: is foreground, but a class_index is" in refused(**crop)
    assert "task.class_weights: has 2 weights" in refused(
        task={"name": "segmentation", "class_weights": [1, 2]}
    )
