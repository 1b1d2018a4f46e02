"""The content of report.json of detection, from generated boxes and the metrics of the task."""

import base64
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from rsdl.data.targets.objects import DIFFICULT
from rsdl.records.detection import DetectionEvaluation
from rsdl.records.evaluation import parse_evaluation
from tests.unit.tasks.detections import SIDE, draw_split, evaluate_split


def decode(uri: str | None) -> NDArray[Any]:
    assert uri is not None
    data = np.frombuffer(base64.b64decode(uri.split(",")[1]), np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1]


@pytest.mark.parametrize("oriented", [True, False])
def test_a_detector_that_is_given_the_truth_is_perfect(oriented: bool):
    evaluation = evaluate_split(draw_split(3, 6, oriented=oriented, noise=None))
    scores = [value for name, value in evaluation.metrics.items() if name != "loss"]
    assert all(value is None or value == 1 for value in scores) and scores[0] == 1
    for row in evaluation.per_class:
        assert (row.ap, row.ap50, row.ap75) == (1, 1, 1)
        assert (row.precision, row.recall, row.f1) == (1, 1, 1)
    assert not any(sum(row.model_dump().values()) for row in evaluation.errors)
    assert evaluation.pictures == () and all(set(c) == {1.0} for c in evaluation.curves)


def test_tables_agree_with_each_other_and_with_the_metrics():
    split = draw_split(4, 12)
    evaluation = evaluate_split(split)
    objects = np.bincount(split.objects()[:, 9].astype(int), minlength=4)
    assert [row.support for row in evaluation.per_class] == objects.tolist()
    assert evaluation.num_found + sum(evaluation.unmatched_objects) == objects.sum()
    for row, confusion in zip(evaluation.per_class, evaluation.confusion, strict=True):
        found = confusion[evaluation.classes.index(row.name)]
        assert row.recall == pytest.approx(found / row.support)
        assert sum(size.objects for size in row.sizes.values()) == row.support
    mean = np.mean([row.ap50 for row in evaluation.per_class])
    assert evaluation.metrics["ap50"] == pytest.approx(mean)
    assert list(evaluation.metrics)[-1] == "loss"


def test_an_evaluation_is_read_as_it_was_written():
    evaluation = evaluate_split(draw_split(3, 4))
    read = parse_evaluation(evaluation.model_dump_json().encode(), "report.json")
    assert read == evaluation and isinstance(read, DetectionEvaluation)
    names, counts = read.shown_confusion
    assert names[-1] == "background" and len(counts) == 4 == len(counts[0])
    assert counts[3] == (*read.unmatched_detections, 0)


def test_the_images_with_the_most_errors_are_drawn():
    split = draw_split(3, 30)
    evaluation = evaluate_split(split)
    errors = [shown.wrong + shown.missed for shown in evaluation.pictures]
    assert errors == sorted(errors, reverse=True) and len(errors) == 8 and errors[0] > 0
    for shown in evaluation.pictures:
        plain, truth = decode(shown.image), decode(shown.truth)
        assert plain.shape == (SIDE, SIDE, 3)
        # The plain image is grey; boxes have a colour.
        assert np.ptp(plain, axis=2).max() < 30 < np.ptp(truth, axis=2).max()


def test_objects_beyond_those_that_are_kept_are_told(monkeypatch: pytest.MonkeyPatch):
    split = draw_split(2, 3)
    total = len(split.objects())
    monkeypatch.setattr("rsdl.tasks.detection_scores.MAX_OBJECTS", 4)
    evaluation = evaluate_split(split)
    assert sum(row.support for row in evaluation.per_class) == total
    kept = evaluation.num_found + sum(evaluation.unmatched_objects)
    assert kept <= 12 < total and evaluation.num_cut == total - kept


def test_a_split_of_difficult_objects_has_no_scores():
    split = draw_split(2, 3)
    split.targets[..., 10] = DIFFICULT
    evaluation = evaluate_split(split)
    assert evaluation.metrics["map"] is None and evaluation.curves == ((), ())
    assert [row.ap50 for row in evaluation.per_class] == [None, None]
