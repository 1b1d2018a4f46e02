"""AP against pycocotools, the devkit's algorithm and polygons of shapely."""

import contextlib
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import shapely.affinity
import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from rsdl.data.targets.objects import DIFFICULT, IGNORED
from rsdl.tasks.average_precision import (
    DetectionMetrics,
    MetricValues,
    summarize,
)
from rsdl.tasks.boxes import truth_boxes
from rsdl.tasks.object_matching import SIZES, THRESHOLDS

CLASSES = 3
COCO_NAMES = ("map", "ap50", "ap75", "map_small", "map_medium", "map_large")


def draw_batch(seed: int, *, images: int = 40, oriented: bool = False) -> tuple[Tensor, Tensor]:
    """Return detections and truths with noise, duplicates, crowds and difficult objects."""
    rng = np.random.default_rng(seed)
    truths = np.zeros((images, 16, 11), np.float32)
    truths[..., 9] = -1
    found = np.zeros((images, 48, 7), np.float32)
    found[..., 6] = -1
    for image in range(images):
        number = rng.integers(0, 14)
        centre, size = rng.uniform(50, 450, (number, 2)), np.exp(rng.uniform(2, 5.5, (number, 2)))
        angle = rng.uniform(-math.pi / 2, math.pi / 2, number) * oriented
        label = rng.integers(0, CLASSES, number)
        boxes = np.concatenate([centre, size, angle[:, None]], axis=1)
        truths[image, :number, :5] = boxes
        truths[image, :number, 5:9] = np.concatenate([centre - size / 2, centre + size / 2], axis=1)
        truths[image, :number, 9] = label
        truths[image, :number, 10] = rng.choice([0, 0, 0, IGNORED], number)
        again = rng.integers(0, number, 2 * number) if number else np.empty(0, np.int64)
        near = boxes[again]
        near[:, :2] += rng.normal(0, 0.08, (len(near), 2)) * near[:, 2:4]
        near[:, 2:4] *= np.exp(rng.normal(0, 0.1, (len(near), 2)))
        near[:, 4] += rng.normal(0, 0.05, len(near)) * oriented
        noise = np.concatenate(
            [rng.uniform(50, 450, (6, 2)), np.exp(rng.uniform(2, 5.5, (6, 2))), np.zeros((6, 1))], 1
        )
        rows = np.concatenate([near, noise])
        labels = np.concatenate([label[again], rng.integers(0, CLASSES, 6)])
        labels = np.where(rng.random(len(rows)) < 0.9, labels, rng.integers(0, CLASSES, len(rows)))
        found[image, : len(rows), :5] = rows
        found[image, : len(rows), 5] = rng.random(len(rows)) * np.where(
            np.arange(len(rows)) < len(near), 1, 0.7
        )
        found[image, : len(rows), 6] = labels
    return torch.from_numpy(found), torch.from_numpy(truths)


def measure(found: Tensor, truths: Tensor, *, oriented: bool = False) -> MetricValues:
    metrics = DetectionMetrics(CLASSES, oriented)
    number = len(found)
    metrics.update(found, truths, torch.ones(number, dtype=torch.bool), torch.ones(number))
    return metrics.values()


def coco_scores(found: Tensor, truths: Tensor) -> tuple[Any, Any]:
    """Return the precision ``[T, R, C, sizes]`` and the twelve numbers of pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations, results = [], []
    for image, rows in enumerate(truths.tolist()):
        for row in rows:
            if row[9] >= 0:
                left, top, right, bottom = row[5:9]
                wide, high = right - left, bottom - top
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image,
                        "category_id": int(row[9]),
                        "bbox": [left, top, wide, high],
                        "area": wide * high,
                        "iscrowd": int(row[10] > 0),
                    }
                )
    for image, rows in enumerate(found.tolist()):
        for x, y, wide, high, _, score, label in rows:
            if label >= 0:
                box = [x - wide / 2, y - high / 2, wide, high]
                results.append(
                    {"image_id": image, "category_id": int(label), "bbox": box, "score": score}
                )
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": image} for image in range(len(truths))],
            "categories": [{"id": label} for label in range(CLASSES)],
            "annotations": annotations,
        }
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(results), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge.eval["precision"][..., -1], judge.stats


def spread_scores(found: Tensor, seed: int) -> Tensor:
    """Return detections in the same order of scores, each alone in its bin."""
    order = found[..., 5].flatten().argsort()
    bins = np.sort(np.random.default_rng(seed).choice(4096, len(order), replace=False))
    scores = torch.empty(len(order))
    scores[order] = torch.from_numpy((bins + 0.5) / 4096).float()
    return torch.cat([found[..., :5], scores.view(found.shape[:2])[..., None], found[..., 6:]], -1)


@pytest.mark.parametrize("seed", range(3))
def test_upright_boxes_score_as_in_pycocotools(seed: int):
    found, truths = draw_batch(seed)
    found = spread_scores(found, seed)
    precision, stats = coco_scores(found, truths)
    values = measure(found, truths)
    ours = [values.metrics[name] for name in COCO_NAMES]
    np.testing.assert_allclose(ours, stats[:6], atol=1e-9)
    assert min(ours) > 0.05 and max(ours) < 0.95
    np.testing.assert_allclose(values.ap, precision[..., 0].mean(axis=1), atol=1e-9)
    np.testing.assert_allclose(values.curves, precision[0, :, :, 0].T, atol=1e-9)


def test_binned_scores_cost_less_than_a_thousandth():
    found, truths = draw_batch(3, images=100)
    _, stats = coco_scores(found, truths)
    ours = [measure(found, truths).metrics[name] for name in COCO_NAMES]
    np.testing.assert_allclose(ours, stats[:6], atol=1e-3)


def devkit_scores(found: Tensor, truths: Tensor, *, oriented: bool) -> tuple[float, float]:
    """Return VOC07 and VOC12 as the devkits compute them, by polygons of shapely."""
    by_2007, by_2012 = [], []
    for label in range(CLASSES):
        detections = sorted(
            (
                (row[5], image, row)
                for image, rows in enumerate(found.tolist())
                for row in rows
                if row[6] == label
            ),
            key=lambda each: -each[0],
        )
        marks, taken = [], set()
        number = int(((truths[..., 9] == label) & (truths[..., 10] == 0)).sum())
        for _, image, row in detections:
            best, winner = 0.0, None
            for place, truth in enumerate(truths[image].tolist()):
                if truth[9] == label:
                    iou = polygon_iou(row[:5], true_box(truth, oriented=oriented))
                    if iou > best:
                        best, winner = iou, place
            if best > 0.5 and winner is not None:
                if truths[image, winner, 10] == 0:
                    marks.append((image, winner) not in taken)
                    taken.add((image, winner))
            else:
                marks.append(False)
        hits = np.cumsum(marks)
        recall, precision = hits / number, hits / np.arange(1, len(hits) + 1)
        by_2007.append(
            np.mean([precision[recall >= least].max(initial=0) for least in np.arange(0, 1.1, 0.1)])
        )
        recall, precision = np.r_[0, recall, 1], np.r_[0, precision, 0]
        for place in range(len(precision) - 1, 0, -1):
            precision[place - 1] = max(precision[place - 1], precision[place])
        step = np.flatnonzero(recall[1:] != recall[:-1])
        by_2012.append(((recall[step + 1] - recall[step]) * precision[step + 1]).sum())
    return float(np.mean(by_2007)), float(np.mean(by_2012))


def true_box(truth: list[float], *, oriented: bool) -> list[float]:
    left, top, right, bottom = truth[5:9]
    if oriented:
        return truth[:5]
    return [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top, 0]


def polygon(box: list[float]) -> shapely.Polygon:
    x, y, wide, high, angle = box
    shape = shapely.box(x - wide / 2, y - high / 2, x + wide / 2, y + high / 2)
    return shapely.affinity.rotate(shape, angle, origin=(x, y), use_radians=True)


def polygon_iou(one: list[float], other: list[float]) -> float:
    first, second = polygon(one), polygon(other)
    return first.intersection(second).area / first.union(second).area


@pytest.mark.parametrize("oriented", [False, True])
def test_voc_is_scored_as_by_the_devkit(oriented: bool):
    found, truths = draw_batch(4, images=12, oriented=oriented)
    found = spread_scores(found, 4)
    truths[..., 10] = (truths[..., 10] > 0) * DIFFICULT
    values = measure(found, truths, oriented=oriented)
    by_2007, by_2012 = devkit_scores(found, truths, oriented=oriented)
    assert 0.1 < by_2012 < 0.9
    assert values.metrics["voc07"] == pytest.approx(by_2007, abs=1e-9)
    assert values.metrics["voc12"] == pytest.approx(by_2012, abs=1e-9)


def greedy_ap(found: Tensor, truths: Tensor, least: float, low: float, high: float) -> float:
    """Return COCO's mean AP of oriented boxes at one IoU and size, by polygons and plain loops."""
    scores = []
    for label in range(CLASSES):
        marks, number = [], 0
        for rows, objects in zip(found.tolist(), truths.tolist(), strict=True):
            mine = [truth for truth in objects if truth[9] == label]
            outside = [not low <= truth[2] * truth[3] <= high for truth in mine]
            spared = [truth[10] > 0 or away for truth, away in zip(mine, outside, strict=True)]
            number += spared.count(False)
            used: set[int] = set()
            for row in sorted((row for row in rows if row[6] == label), key=lambda row: -row[5]):
                iou = {}
                for place, truth in enumerate(mine):
                    ours, theirs = polygon(row[:5]), polygon(truth[:5])
                    whole = ours if truth[10] == IGNORED else ours.union(theirs)
                    value = ours.intersection(theirs).area / whole.area
                    if value >= least and place not in used:
                        iou[place] = (not spared[place], value)
                if iou:
                    taken = max(iou, key=lambda place: iou[place])
                    if mine[taken][10] == 0:
                        used.add(taken)
                    if not spared[taken]:
                        marks.append((row[5], True))
                elif low <= row[2] * row[3] <= high:
                    marks.append((row[5], False))
        hits = np.cumsum([mark for _, mark in sorted(marks, reverse=True)])
        recall, precision = hits / number, hits / np.arange(1, len(hits) + 1)
        scores.append(
            np.mean([precision[recall >= point].max(initial=0) for point in np.linspace(0, 1, 101)])
        )
    return float(np.mean(scores))


@pytest.mark.parametrize(
    ("least", "name", "low", "high"),
    [(0.5, "all", 0, 1e10), (0.75, "all", 0, 1e10), (0.5, "small", 0, 1024)],
)
def test_oriented_boxes_score_as_by_polygons(least: float, name: str, low: float, high: float):
    found, truths = draw_batch(5, images=12, oriented=True)
    found = spread_scores(found, 5)
    flags = np.random.default_rng(0).choice([0, 0, 0, DIFFICULT, IGNORED], truths.shape[:2])
    truths[..., 10] = torch.from_numpy(flags)
    metrics = DetectionMetrics(CLASSES, oriented=True)
    metrics.update(found, truths, torch.ones(12, dtype=torch.bool), torch.ones(12))
    sums = metrics.sums()
    size, step = SIZES.index(name), int(np.flatnonzero(np.isclose(THRESHOLDS, least))[0])
    sums |= {
        key: sums[key][[size] * len(SIZES)] for key in ("seen", "right", "matched", "num_objects")
    }
    expected = greedy_ap(found, truths, least, low, high)
    assert 0.05 < expected < 0.9
    assert np.mean(summarize(sums).ap[step]) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("oriented", [False, True])
def test_the_truth_scores_one(oriented: bool):
    _, truths = draw_batch(6, oriented=oriented)
    found = torch.zeros(*truths.shape[:2], 7)
    found[..., :5] = truth_boxes(truths, oriented=oriented)
    found[..., 5], found[..., 6] = 0.9, truths[..., 9]
    values = measure(found, truths, oriented=oriented)
    scores = {name: value for name, value in values.metrics.items() if name != "loss"}
    assert scores == pytest.approx(dict.fromkeys(scores, 1.0))


def test_batches_ranks_and_padding_do_not_change_a_sum():
    found, truths = draw_batch(7, oriented=True)
    whole = DetectionMetrics(CLASSES, oriented=True)
    whole.update(found, truths, torch.ones(40, dtype=torch.bool), torch.ones(40))
    parts = [DetectionMetrics(CLASSES, oriented=True) for _ in range(3)]
    for number in range(40):
        rows = torch.tensor([number, (number + 7) % 40])  # the second is padding
        valid = torch.tensor([True, False])
        parts[number % 3].update(found[rows], truths[rows], valid, torch.ones(2))
    together = {name: sum(part.sums()[name] for part in parts) for name in whole.sums()}
    for name, value in whole.sums().items():
        np.testing.assert_array_equal(together[name], value)


def measure_on_rank(rank: int, folder: str) -> None:
    address = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    metrics = DetectionMetrics(CLASSES, oriented=False)
    found, truths = draw_batch(9)
    rows = torch.arange(40)[rank::2]
    metrics.update(found[rows], truths[rows], torch.ones(20, dtype=torch.bool), torch.ones(20))
    for name, value in metrics.sums().items():
        np.save(f"{folder}/{rank}-{name}.npy", value)
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_have_the_sums_of_one(tmp_path: Path):
    whole = DetectionMetrics(CLASSES, oriented=False)
    whole.update(*draw_batch(9), torch.ones(40, dtype=torch.bool), torch.ones(40))
    spawn(measure_on_rank, (str(tmp_path),), nprocs=2)
    for rank in range(2):
        for name, value in whole.sums().items():
            np.testing.assert_array_equal(np.load(tmp_path / f"{rank}-{name}.npy"), value)


def test_nothing_to_find_is_undefined_and_nothing_found_is_zero():
    found, truths = draw_batch(8)
    nothing = torch.zeros_like(found)
    nothing[..., 6] = -1
    values = measure(nothing, truths)
    assert values.metrics["map"] == values.metrics["voc07"] == values.metrics["voc12"] == 0
    assert values.num_detections == 0
    truths[..., 9] = -1
    values = measure(found, truths)
    assert np.isnan([values.metrics[name] for name in (*COCO_NAMES, "voc07", "voc12")]).all()
    assert values.num_objects.tolist() == [0] * CLASSES
    assert values.num_detections == int((found[..., 6] >= 0).sum())
    padding = DetectionMetrics(CLASSES, oriented=False)
    padding.update(found, truths, torch.zeros(len(found), dtype=torch.bool), torch.ones(len(found)))
    assert np.isnan(list(padding.values().metrics.values())).all()
    assert padding.values().num_samples == padding.values().num_detections == 0


def test_what_lies_on_an_ignored_object_is_not_wrong():
    """Of an object that a tile's edge cut, a detection sees a part."""
    truths = torch.zeros(1, 16, 11)
    truths[..., 9] = -1
    truths[0, 0] = torch.tensor([10, 50, 100, 20, 0, 0, 40, 60, 60, 0, IGNORED])
    truths[0, 1] = torch.tensor([200, 50, 40, 20, 0, 180, 40, 220, 60, 0, 0])
    found = torch.tensor([[[200.0, 50, 40, 20, 0, 0.5, 0], [20, 50, 40, 20, 0, 0.9, 0]]])
    for oriented in (False, True):
        values = measure(found, truths, oriented=oriented)
        assert values.metrics["ap50"] == values.metrics["voc12"] == 1
