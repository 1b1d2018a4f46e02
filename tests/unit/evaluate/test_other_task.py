"""Pages and tables take the names of metrics from a run's task: tried with a second task."""

import csv
import io
from collections.abc import Callable

import pytest

from rsdl.commands.sweep.rows import Row
from rsdl.commands.sweep.table import headings, sum_cells
from rsdl.config.task import TASKS, TaskFacts
from rsdl.evaluate.compared_run import ComparedRun
from rsdl.evaluate.figures.curves import Curves
from rsdl.evaluate.formatting import percent
from rsdl.evaluate.report import TASK_REPORTS, render_report
from rsdl.evaluate.report.run_summary import TaskReport, Tile
from rsdl.evaluate.study import Study, render_study, study_of
from rsdl.records.run_record import RunRecord

MASKS = TaskReport(
    template="report.html.jinja",
    metrics=("miou", "oa"),
    columns=(("iou_water", "IoU of water", percent),),
    curves=(Curves("Validation IoU", {"mean IoU": "val_miou"}),),
    tiles=lambda entry: [Tile("Mean IoU", percent(entry.score))],
    verdict=lambda evaluation: "",
    sections=lambda evaluation: {},
)


@pytest.fixture
def masks(begun: RunRecord, monkeypatch: pytest.MonkeyPatch) -> ComparedRun:
    """Return a completed run of a task that rsdl does not have."""
    monkeypatch.setitem(TASKS, "masks", TaskFacts("mask", "miou", "mIoU", "mean IoU"))
    monkeypatch.setattr("rsdl.evaluate.report.TASK_REPORTS", {**TASK_REPORTS, "masks": MASKS})
    monkeypatch.setattr("rsdl.evaluate.study.TASK_REPORTS", {**TASK_REPORTS, "masks": MASKS})
    best = {"epoch": 3, "miou": 0.625, "iou_water": 0.5, "oa": 0.75}
    run = begun.model_copy(update={"task": "masks", "name": "unet", "device_s": 60.0,
                                   "status": "completed", "metrics": {"best": best}})  # fmt: skip
    history = [{"epoch": float(k), "step": k + 1.0, "val_miou": 0.5 + k / 16} for k in range(3)]
    return ComparedRun(run, history=history)


def test_a_report_has_the_metrics_and_curves_of_its_task(masks: ComparedRun):
    html = render_report(masks, config_yaml="")
    assert '<dt>Mean IoU</dt><dd class="value">62.5%</dd>' in html
    assert "Validation IoU" in html
    body = html.split("<body>")[1].split("<script>")[0]
    assert "onfusion" not in body and "ccuracy" not in body


def test_a_study_ranks_by_the_metric_of_its_task(masks: ComparedRun):
    study = study_of([masks])
    html = render_study(study)
    assert "<h2>Mean IoU</h2>" in html and ">mIoU with TTA</th>" in html
    assert ">IoU of water</th>" in html and "62.50% at 0.0167 device hours" in html
    assert "verall accuracy" not in html and "OA" not in html and "Kappa" not in html
    assert r"Mean IoU (\%) on the val split" in study.latex
    (row,) = read_csv(study)
    assert (row["miou"], row["oa"], row["miou_mean"]) == ("0.625", "0.75", "0.625")
    assert "kappa" not in row and "oa_mean" not in row


def test_tasks_in_one_study_are_told_apart(masks: ComparedRun, entry: Callable[..., ComparedRun]):
    study = study_of([masks, entry("cnn", "ucm", 80)])
    assert (study.label, study.title) == ("OA/mIoU", "Overall accuracy / mean IoU")
    cnn, unet = read_csv(study)
    assert (cnn["oa_mean"], cnn["miou_mean"]) == ("0.8", "")
    assert (unet["oa_mean"], unet["miou_mean"]) == ("", "0.625")
    assert study.summaries["cnn"].mean is None
    assert study.board.cells[("cnn", "ucm")][0][1] and study.board.cells[("vit_base", "aid")][0][1]


def test_aligned_and_oriented_boxes_of_a_data_set_do_not_compete(begun: RunRecord):
    def run_of(name: str, boxes: str, **best: float) -> ComparedRun:
        fields = {"name": name, "architecture": name, "task": "detection", "boxes": boxes,
                  "status": "completed", "dataset": "dota", "metrics": {"best": best}}  # fmt: skip
        return ComparedRun(begun.model_copy(update=fields))

    found = [run_of("vit", "oriented", ap50=0.8, map=0.5), run_of("cnn", "oriented", ap50=0.7)]
    study = study_of([*found, run_of("old", "aligned", map=0.9)])
    (column,) = study.board.columns
    assert (column.label, column.best) == ("AP50", 0.8)
    assert [study.board.cells[(name, "dota")][0][1] for name in ("vit", "cnn", "old")] == [
        True, False, False,
    ]  # fmt: skip
    assert '90.00%<span class="cell-note">mAP</span>' in render_study(study)


def test_the_status_of_a_study_names_the_metric_of_its_task(masks: ComparedRun):
    rows = [Row("a", "a", "unknown", task="masks", score=0.5)]
    assert headings(rows)[5] == "mIoU(val)" and sum_cells(rows)[4] == "50.00%"
    assert rows[0].to_json()["miou"] == 0.5
    rows.append(Row("b", "b", "unknown", score=1.0))
    assert headings(rows)[5] == "mIoU/OA(val)" and sum_cells(rows)[4] == "-"


def read_csv(study: Study) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(study.csv)))
