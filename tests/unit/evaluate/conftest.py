"""Evaluations and run records of made-up runs."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rsdl.evaluate.compared_run import ComparedRun
from rsdl.records.evaluation import CalibrationBin, ClassificationEvaluation, Picture, RunnerUp
from rsdl.records.run_record import RunRecord
from tests.run_records import make_record
from tests.unit.evaluate.class_scores import scores_of

Rows = list[dict[str, float | None]]

PIXEL = "data:image/png;base64,iVBORw0KGgo="


@pytest.fixture
def make_evaluation() -> Callable[..., ClassificationEvaluation]:
    """Return a maker of evaluations with a given accuracy."""

    def make(
        classes: tuple[str, ...] = ("field", "harbor", "park"), **fields: object
    ) -> ClassificationEvaluation:
        confusion = np.full((len(classes), len(classes)), 1) + 7 * np.eye(len(classes), dtype=int)
        confusion = np.asarray(fields.pop("confusion", confusion))
        scores = scores_of(confusion, classes)
        picture = Picture(
            key="harbor_0007",
            source="harbor/harbor_7.jpg",
            label=classes[0],
            predicted=classes[-1],
            confidence=0.987,
            runner_up=RunnerUp(name=classes[0], probability=0.012),
            image=PIXEL,
            crs="EPSG:32618",
            bounds=(500000.0, 4100000.0, 500256.0, 4100256.0),
        )
        given = {
            "run": "resnet50_ucm",
            "split": "test",
            "checkpoint": "best.ckpt",
            "classes": classes,
            "num_samples": int(confusion.sum()),
            "num_skipped": 3,
            "metrics": {**scores.metrics, "top5": 0.9876, "ece": 0.0432, "loss": 0.5},
            "per_class": scores.per_class,
            "confusion": confusion.tolist(),
            "calibration": (
                CalibrationBin(low=0, high=0.5, count=0, confidence=None, accuracy=None),
                CalibrationBin(low=0.5, high=1, count=30, confidence=0.9, accuracy=0.7),
            ),
            "mistakes": (picture,),
            "uncertain": (picture.model_copy(update={"image": None}),),
        }
        return ClassificationEvaluation.model_validate({**given, **fields})

    return make


@pytest.fixture
def run() -> RunRecord:
    """Return a complete run record."""
    ledger = [
        {"epoch": epoch, "split": "train", "planned": 1281, "delivered": 1280, "padded": 0,
         "skipped": 1, "fingerprint": "f", "balanced": epoch != 5}
        for epoch in range(12)
    ]  # fmt: skip
    fields: dict[str, Any] = {
        "name": "resnet50_ucm", "status": "completed", "git_revision": "3f2c1e9a",
        "config_digest": "c", "manifest_digest": "m", "seed": 4711, "architecture": "resnet50",
        "timm_model": "resnet50.a1_in1k", "parameters": 23_551_061, "dataset": "ucm",
        "num_classes": 3, "bands": 3, "image_size": 224, "global_batch": 64, "epochs_planned": 12,
        "epochs_completed": 12, "optimizer_steps": 240, "samples_read": 15_360,
        "bytes_encoded": 1_500_000_000, "bytes_decoded": 3_000_000_000, "wall_s": 3725.0,
        "device_s": 3725.0, "device_name": "NVIDIA A100", "data_wait_s": 37.25, "preemptions": 2,
        "resumes": 2, "started_at": "2026-03-02T08:11:09+00:00",
        "updated_at": "2026-03-02T12:01:44+00:00", "ledger": ledger,
        "metrics": {"final": {"oa": 0.71}, "best": {"epoch": 9, "oa": 0.734, "kappa": 0.72}},
        "environment": {"python": "3.13.1", "torch": "2.9.0"},
    }  # fmt: skip
    return RunRecord(**fields)


@pytest.fixture
def begun() -> RunRecord:
    """Return the record of a run that has just begun."""
    return make_record(
        name="begun", architecture="vit_base", timm_model="vit_base_patch16_224", dataset="aid"
    )


@pytest.fixture
def history() -> list[dict[str, float | None]]:
    """Return rows of metrics.csv: training rows without validation, and the other way round."""
    rows: list[dict[str, float | None]] = []
    for epoch in range(4):
        step = 20 * (epoch + 1)
        rows.append({"epoch": epoch, "step": step - 10, "train_loss": 3.0 - epoch, "lr": 1e-3})
        rows.append({"epoch": epoch, "step": step, "val_loss": 2.5, "val_oa": 0.5 + epoch / 10})
    return rows


@pytest.fixture
def entry(
    make_evaluation: Callable[..., ClassificationEvaluation], run: RunRecord, history: Rows
) -> Callable[..., ComparedRun]:
    """Return a maker of entries with ``right`` of 100 samples classified correctly."""

    def make(
        architecture: str, dataset: str, right: int | None, *, split: str = "test", **keys: object
    ) -> ComparedRun:
        name = f"{architecture}_{dataset}"
        names = {"name": name, "architecture": architecture, "dataset": dataset}
        record = RunRecord(**run.model_dump() | names | keys)
        if right is None:
            return ComparedRun(record, None, history)
        confusion = np.array([[right, 100 - right], [0, 0]])
        evaluation = make_evaluation(("a", "b"), confusion=confusion, split=split)
        return ComparedRun(record, evaluation, history)

    return make
