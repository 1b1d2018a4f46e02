"""The page of a detection run, for splits of every kind."""

import io
import re

import numpy as np
import pytest
from rich.console import Console

from rsdl.commands.evaluate import summary_table
from rsdl.data.targets.objects import make_objects
from rsdl.evaluate.compared_run import ComparedRun
from rsdl.evaluate.report import render_report
from rsdl.evaluate.report.detection import KINDS, error_rows, verdict
from rsdl.evaluate.study import render_study, study_of
from rsdl.records.detection import DetectionEvaluation
from rsdl.records.run_record import RunRecord
from rsdl.tasks.base import Place
from tests.run_records import make_record
from tests.unit.tasks.detections import Split, draw_split, evaluate_split


def make_run(boxes: str = "oriented") -> RunRecord:
    return make_record(name="resnet50_dota", task="detection", boxes=boxes, status="completed")


def render(split: Split, boxes: str = "oriented") -> tuple[DetectionEvaluation, str]:
    evaluation = evaluate_split(split)
    return evaluation, render_report(ComparedRun(make_run(boxes), evaluation), config_yaml="")


def without_detections(split: Split) -> Split:
    split.predictions[..., 5:] = 0, -1
    return split


@pytest.mark.parametrize(
    "split",
    [
        without_detections(draw_split(3, 4)),
        draw_split(3, 4, most=0),
        draw_split(1, 4),
        draw_split(2, 4, oriented=False),
        draw_split(60, 40),
        draw_split(3, 4, noise=None),
    ],
    ids=["no detections", "no objects", "one class", "aligned", "60 classes", "no error"],
)
def test_a_page_shows_any_split(split: Split):
    evaluation, html = render(split)
    body = html.split("<body>")[1].split("<script>")[0]
    words = re.sub("<[^>]*>", " ", body) + " ".join(
        re.findall(r' (?:d|cx|cy|width)="([^"]*)"', body)
    )
    assert "nan" not in words.lower() and "None" not in words
    table = body.split('id="classes"')[1].split("</table>")[0]
    assert table.count("<tr>") == split.num_classes + 1
    curves = body.split('id="precision"')[1].split('id="errors"')[0]
    assert curves.count("<figure") >= sum(map(bool, evaluation.curves))
    assert body.count('<figure class="overlay">') == len(evaluation.pictures)
    for name, kind in zip(KINDS, error_rows(evaluation), strict=True):
        assert kind.meaning in body, name


def test_a_page_without_an_evaluation_says_so():
    html = render_report(ComparedRun(make_run()), config_yaml="")
    assert "Not evaluated yet" in html and "<dt>AP50</dt>" in html


@pytest.mark.parametrize(("boxes", "label"), [("oriented", "AP50"), ("aligned", "mAP")])
def test_the_first_number_is_the_metric_that_ranks_runs(boxes: str, label: str):
    split = draw_split(2, 6, oriented=boxes == "oriented")
    evaluation, html = render(split, boxes)
    score = evaluation.metrics[make_run(boxes).facts.primary_metric]
    first = re.search(r'<div class="hero"><dt>([^<]*)</dt><dd class="value">([^<]*)<', html)
    assert first is not None and score is not None
    assert first.groups() == (f"{label} (test)", f"{100 * score:.1f}%")
    study = study_of([ComparedRun(make_run(boxes), evaluation)])
    assert study.label == label and f"{100 * score:.2f}%" in render_study(study)
    assert "ap75" in study.csv.splitlines()[0]


def test_the_verdict_is_of_what_was_counted():
    evaluation = evaluate_split(without_detections(draw_split(3, 4)))
    words = verdict(evaluation)
    assert words.startswith("0.0% of") and "no detection is on or near (100.0% of errors)" in words
    assert "is right" not in verdict(evaluate_split(draw_split(3, 4, noise=None)))


def test_the_matrix_has_a_row_and_a_column_of_background():
    evaluation, html = render(draw_split(2, 8))
    missed = evaluation.unmatched_objects[0]
    assert missed and f"class 0 predicted as background: {missed} (" in html
    confusions = html.split("Most frequent confusions")[1:]
    assert all("background" not in part.split("</table>")[0] for part in confusions)


def test_scores_of_whole_images_stand_beside_those_of_tiles():
    split = draw_split(2, 4)
    objects = make_objects(np.zeros((0, 4, 2)), [], (256, 256))
    places = [Place("scene", (0, 256 * n), (1.0, 1.0), objects) for n in range(4)]
    evaluation = evaluate_split(split, places)
    html = render_report(ComparedRun(make_run(), evaluation), config_yaml="")
    assert "<h2>Whole images</h2>" in html and "0 objects in 1 image, each" in html
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(summary_table(evaluation))
    assert "whole images (1)" in console.export_text()
    alone = render(split)[1]
    assert "Whole images" not in alone


def test_a_study_shows_the_metric_that_ranks_runs_once():
    evaluation = evaluate_split(draw_split(2, 6))
    oriented = ComparedRun(make_run("oriented"), evaluation)
    aligned = ComparedRun(make_run("aligned"), evaluation)
    assert [name for name, *_ in study_of([oriented]).columns] == ["map", "ap75"]
    assert [name for name, *_ in study_of([aligned]).columns] == ["ap50", "ap75"]
    assert [name for name, *_ in study_of([oriented, aligned]).columns] == ["map", "ap50", "ap75"]
