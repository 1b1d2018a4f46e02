"""Detection: what becomes a detection, views turned back, and a loss that adds up."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rsdl.config.model import ModelConfig
from rsdl.config.run import RunConfig
from rsdl.config.task import TASKS, DetectionConfig, find_facts
from rsdl.core.errors import ConfigError
from rsdl.data.manifest import Manifest
from rsdl.data.plan import Share
from rsdl.data.targets import KINDS
from rsdl.data.targets.base import Dihedral
from rsdl.data.targets.objects import HULL, LABEL, RECTANGLE
from rsdl.data.targets.rectangles import corners
from rsdl.storage.s3.endpoint import AWS
from rsdl.tasks.base import turned_views
from rsdl.tasks.build import build_task
from rsdl.tasks.detection import WIDTH, DetectionTask, unturn
from rsdl.train.checks import check_mixing
from tests.drawn_objects import CLASSES
from tests.unit.tasks.drawn_batch import targets_of

SIDE = 64


def task_of(mean_objects: float = 1.0, **fields: object) -> DetectionTask:
    config = {"name": "detection", "head_width": 32, "max_detections": 20, **fields}
    task = DetectionTask(DetectionConfig.model_validate(config), CLASSES, mean_objects)
    task.build_network(
        ModelConfig(name="test_resnet"), in_chans=3, image_size=SIDE, storage=AWS, bands=()
    )
    return task


def say_truth(task: DetectionTask, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the outputs of a network that says each object twice, the second time less surely."""
    number = 86  # cells of 64 px at strides 8 .. 128
    logits = torch.full((len(targets), number, len(CLASSES)), -9.0)
    boxes = torch.ones(len(targets), number, 5)
    for row, objects in enumerate(targets):
        for place, each in enumerate(objects[objects[:, LABEL] >= 0]):
            box = each[RECTANGLE]
            if not task.config.is_oriented:
                left, top, right, bottom = each[HULL].tolist()
                box = torch.tensor(
                    [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top, 0]
                )
            for copy, score in ((0, 3.0 - 0.1 * place), (1, 1.0)):
                boxes[row, 2 * place + copy] = box
                logits[row, 2 * place + copy, int(each[LABEL])] = score
    return logits, boxes


@pytest.mark.parametrize("boxes", ["aligned", "oriented"])
def test_detections_are_the_best_of_each_object_and_padded(boxes: str):
    task = task_of(boxes=boxes)
    targets = targets_of(0, 1)
    found = task.predict(say_truth(task, targets))
    assert found.shape == (2, 20, WIDTH) and found.dtype == torch.float32
    for rows, objects in zip(found, targets, strict=True):
        number = int((objects[:, LABEL] >= 0).sum())
        kept, rest = rows[:number], rows[number:]
        scores = kept[:, 5]
        assert (scores.diff() < 0).all() and (scores > 0.5).all()
        assert torch.equal(kept[:, 6], objects[:number, LABEL])
        assert (rest[:, 5] == 0).all() and (rest[:, 6] == -1).all()
    names = task.labels(found)
    assert names[0][0] == (CLASSES[int(targets[0, 0, LABEL])], pytest.approx(float(found[0, 0, 5])))


@pytest.mark.parametrize("boxes", ["aligned", "oriented"])
def test_a_detector_that_is_given_the_truth_is_perfect(boxes: str):
    task = task_of(boxes=boxes)
    targets = targets_of(*range(6))
    metrics = task.metrics()
    found = task.predict(say_truth(task, targets))
    metrics.update(found, targets, torch.ones(6, dtype=torch.bool), torch.zeros(6))
    values = metrics.values().metrics
    assert values["map"] == pytest.approx(1) and values[task.facts.primary_metric] > 0.999
    assert task.describe(values) == "AP50 100.00%  mAP 100.00%"
    assert task.describe({"ap50": None, "map": None}) == "AP50 -  mAP -"  # without an object


@pytest.mark.parametrize("boxes", ["aligned", "oriented"])
@given(seed=st.integers(0, 30))
def test_detections_of_every_turned_view_are_turned_back(boxes: str, seed: int):
    task = task_of(boxes=boxes)
    targets = targets_of(seed)
    plain = task.predict(say_truth(task, targets))
    numbered = torch.arange(SIDE * SIDE, dtype=torch.float32).view(1, 1, SIDE, SIDE)
    pixels = list(turned_views(numbered))
    assert len(pixels) == 8
    for number, view in enumerate(pixels):
        swap, flip = divmod(number, 4)
        chosen = Dihedral(*(torch.tensor([bool(x)]) for x in (swap, flip & 1, flip & 2)))
        # As the pixels of the view.
        turned = KINDS["objects"].turn(targets, chosen, SIDE)
        expected = numbered.transpose(2, 3) if swap else numbered
        axes = [axis for axis, bit in ((2, 1), (3, 2)) if flip & bit]
        assert torch.equal(view, expected.flip(axes))
        found = task.predict(say_truth(task, turned))
        back = unturn(found, number, (SIDE, SIDE), oriented=task.config.is_oriented)
        real = plain[0, :, 6] >= 0
        assert torch.equal(back[0, real, 5:], plain[0, real, 5:])
        for one, other in zip(corners(back[0, real, :5]), corners(plain[0, real, :5]), strict=True):
            gaps = torch.cdist(one, other)  # the same corners, from whichever one on
            assert gaps.min(0).values.max() < 1e-2 and gaps.min(1).values.max() < 1e-2
        assert (back[..., 4].abs() <= math.pi / 2 + 1e-5).all()


def test_views_are_merged_into_one_detection_of_each_object():
    task = task_of(boxes="oriented")
    targets = targets_of(3)
    views = []
    for number in range(8):
        swap, flip = divmod(number, 4)
        chosen = Dihedral(*(torch.tensor([bool(x)]) for x in (swap, flip & 1, flip & 2)))
        views.append(say_truth(task, KINDS["objects"].turn(targets, chosen, SIDE)))
    outputs, merged = task.merge_views(views)
    assert outputs is views[0]  # whose cells are the image's
    assert (merged[..., 6] >= 0).sum() == (targets[..., LABEL] >= 0).sum()
    assert torch.allclose(merged[0, :, 5], task.predict(views[0])[0, :, 5])


@given(cuts=st.lists(st.integers(1, 5), max_size=3))
def test_losses_of_a_batch_are_those_of_its_parts(cuts: list[int]):
    task = task_of(mean_objects=4.0, boxes="oriented")
    targets = targets_of(*range(6))
    generator = torch.Generator().manual_seed(0)
    logits, boxes = say_truth(task, targets)
    logits += torch.randn(logits.shape, generator=generator)
    whole = task.loss((logits, boxes), targets, training=True)
    assert whole.shape == (6,) and whole.dtype == torch.float32
    parts = [
        task.loss((logits[low:high], boxes[low:high]), targets[low:high], training=True)
        for low, high in pairwise(sorted({0, 6, *cuts}))
    ]
    assert torch.allclose(torch.cat(parts), whole, rtol=1e-5)
    other = task_of(mean_objects=2.0, boxes="oriented")
    assert torch.allclose(other.loss((logits, boxes), targets, training=True), 2 * whole)


def test_the_divisor_is_the_mean_number_of_objects_of_a_train_image():
    file = {"name": "i", "bytes": 1, "sha256": "0" * 64}
    shards = [{**file, "samples": 4}]
    split = {"samples": 4, "shards": shards, "index": file, "class_counts": [10, 2, 0]}
    manifest = Manifest.model_validate(
        {"dataset": "d", "target": "objects", "classes": CLASSES, "bands": ["r"], "dtype": "uint8",
         "mean": [0], "std": [1], "provenance": {}, "splits": {"train": split}}
    )  # fmt: skip
    task = build_task(DetectionConfig(name="detection"), manifest, url="./d")
    assert isinstance(task, DetectionTask) and task.mean_objects == 3


def test_the_primary_metric_depends_on_the_kind_of_boxes():
    aligned, oriented = (task_of(boxes=kind).facts for kind in ("aligned", "oriented"))
    assert (aligned.primary_metric, oriented.primary_metric) == ("map", "ap50")
    assert aligned == TASKS["detection"] == find_facts("detection", "aligned")
    assert oriented == find_facts("detection", "oriented")


def run_config(boxes: str, augment: dict[str, object] | None = None, **data: object) -> RunConfig:
    tree = {"name": "r", "data": {"url": "d", **data}, "model": {"name": "resnet18"}}
    task = {"name": "detection", "boxes": boxes}
    return RunConfig.model_validate({**tree, "augment": augment or {}, "task": task})


def test_crops_that_stretch_oriented_boxes_are_refused():
    square = (1, 1)
    run_config("oriented", crop_ratio=square)
    run_config("aligned")  # upright boxes may be stretched
    with pytest.raises(ValueError, match=r"data\.crop_ratio: is \[0\.75, 1\.333\].*=\[1,1\]"):
        run_config("oriented")
    with pytest.raises(ValueError, match=r"data\.eval_crop: is whole"):
        run_config("oriented", crop_ratio=square, eval_crop="whole")


def test_upright_boxes_are_not_turned_by_any_angle():
    turned: dict[str, object] = {"rotate": 30}
    run_config("oriented", turned, crop_ratio=(1, 1))
    with pytest.raises(ValueError, match=r"augment\.rotate: is 30, .* set task\.boxes=oriented"):
        run_config("aligned", turned)


def test_images_with_objects_are_not_mixed():
    config = run_config("aligned")
    mixed = config.model_copy(update={"augment": config.augment.model_copy(update={"mixup": 0.2})})
    with pytest.raises(ConfigError, match="detection cannot mix its targets"):
        check_mixing(mixed, Share())


def test_scores_of_columns_can_be_collected_whatever_the_batch():
    task = task_of()
    sizes = set()
    for seeds in ((0,), (0, 1, 2)):
        targets = targets_of(*seeds)
        columns = task.columns(task.predict(say_truth(task, targets)), targets)
        sizes |= {(name, value.shape[1:]) for name, value in columns.items()}
        assert all(len(value) == len(seeds) for value in columns.values())
    assert len(sizes) == 2
    assert np.prod([size for _, shape in sizes for size in shape]) > 0
