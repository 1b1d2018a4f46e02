"""``rsdl sweep report`` sums the studies of several tasks on one page."""

import csv
from pathlib import Path

import pytest

from rsdl.commands.report import report_study
from rsdl.records.run_record import RECORD
from tests.run_records import make_record

STUDIES = {
    "classification": (("ucm", {"oa": 0.9, "kappa": 0.8}),),
    "segmentation": (("loveda", {"miou": 0.5, "oa": 0.7}),),
    "detection": (("dota", {"ap50": 0.75, "map": 0.4}), ("xview", {"map": 0.25, "ap50": 0.5})),
}


@pytest.fixture
def studies(tmp_path: Path) -> list[str]:
    """Return folders of two completed runs for each data set of the study of a task."""
    folders = []
    for task, datasets in STUDIES.items():
        for dataset, best in datasets:
            boxes = {"dota": "oriented", "xview": "aligned"}.get(dataset)
            for number, name in enumerate(("cnn", "vit")):
                record = make_record(
                    name=f"{name}_{dataset}", architecture=name, dataset=dataset, task=task,
                    boxes=boxes, status="completed", epochs_completed=10, optimizer_steps=100,
                    device_s=3600.0, device_name="NVIDIA A40", bytes_decoded=10**9,
                    metrics={"best": {"epoch": 9} | {k: v - number / 10 for k, v in best.items()}},
                )  # fmt: skip
                path = tmp_path / task / record.name / RECORD
                path.parent.mkdir(parents=True)
                path.write_text(record.model_dump_json())
        folders.append(str(tmp_path / task))
    return folders


def test_the_page_sums_the_studies_of_all_tasks(
    studies: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "study.html"
    # A folder that is given twice, or with those above it, counts once.
    assert report_study([*studies, studies[0], str(tmp_path)], out=str(out)) == 0
    said = capsys.readouterr().out
    assert "8 models of 8 runs (2 architectures x 4 data sets): 80 epochs" in said
    page, latex = out.read_text(), (tmp_path / "study.tex").read_text()
    for heading in ("ucm (val) OA", "loveda (val) mIoU", "dota (val) AP50", "xview (val) mAP"):
        assert f">{heading}</th>" in page and heading in latex
    assert "dota: AP50 by device hours" in page and "xview: mAP by device hours" in page
    rows = {
        row["run"]: row for row in csv.DictReader((tmp_path / "study.csv").read_text().splitlines())
    }
    assert {rows[name][f"{metric}_mean"] for name, metric in (
        ("cnn_ucm", "oa"), ("cnn_loveda", "miou"), ("cnn_dota", "ap50"), ("cnn_xview", "map"),
    )} == {"0.9", "0.5", "0.75", "0.25"}  # fmt: skip
    assert rows["cnn_loveda"]["oa_mean"] == rows["cnn_xview"]["ap50_mean"] == ""


def test_one_study_is_told_by_its_metric_alone(studies: list[str], tmp_path: Path):
    report_study(studies[1:2], out=str(tmp_path / "one.html"))
    page = (tmp_path / "one.html").read_text()
    assert ">loveda (val)</th>" in page and "<h2>mIoU against cost</h2>" in page
    assert "ccuracy" not in page.split("<body>")[1].split('id="runs"')[0]
