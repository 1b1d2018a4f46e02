"""What DETR-type heads say: each object has one query, and an image's loss is its own."""

from collections.abc import Callable
from importlib.util import find_spec
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rsdl.config.model import ModelConfig
from rsdl.config.task import DETR_LEVELS, DetectionConfig
from rsdl.data.targets.objects import DIFFICULT, FLAGS, HULL, IGNORED, LABEL, WIDTH
from rsdl.storage.s3.endpoint import AWS
from rsdl.tasks.assignment import read_truth
from rsdl.tasks.boxes import truth_boxes
from rsdl.tasks.detection import DetectionTask
from rsdl.tasks.heads.detr import DetrDetection, cost_of_matches, find_matches
from tests.drawn_objects import CLASSES
from tests.unit.tasks.drawn_batch import learn_by_heart, targets_of

Require = Callable[[str, bool], None]
SIDE, QUERIES, LAYERS = 64, 12, 2
SIDES = (SIDE, SIDE, SIDE, SIDE)
PACKAGES = ("transformers", "scipy")


@pytest.fixture(autouse=True)
def _installed(require: Require) -> None:
    require("detr", all(find_spec(name) is not None for name in PACKAGES))


def config_of(head: str, **fields: object) -> DetectionConfig:
    given = {"name": "detection", "head": head, "head_width": 32, "head_depth": LAYERS}
    return DetectionConfig.model_validate(given | {"max_detections": QUERIES} | fields)


def meaning_of(head: str, mean_objects: float = 1.0) -> DetrDetection:
    return DetrDetection(config_of(head), (SIDE, SIDE), mean_objects)


def outputs_of(batch: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, LAYERS, QUERIES, len(CLASSES), generator=generator)
    shares = torch.rand(batch, LAYERS, QUERIES, 5, generator=generator) * 0.4 + 0.3
    shares[..., 4] = 0
    return logits, shares * SIDE


def say_truth(targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the outputs of a network whose last layer says each object once, and nothing else."""
    logits, boxes = outputs_of(len(targets))
    logits[:, -1] = -9
    for image, objects in enumerate(targets):
        for query, each in enumerate(objects[objects[:, LABEL] >= 0]):
            boxes[image, -1, query] = truth_boxes(each, oriented=False)
            logits[image, -1, query, int(each[LABEL])] = 5 - 0.1 * query
    return logits, boxes


@pytest.mark.parametrize("head", DETR_LEVELS)
def test_a_detector_that_is_given_the_truth_is_perfect_without_nms(head: str):
    # Of two boxes in one place NMS would drop the lower one.
    task = DetectionTask(config_of(head, nms_iou=0.01), CLASSES)
    task.build_network(
        ModelConfig(name="test_resnet"), in_chans=3, image_size=SIDE, storage=AWS, bands=()
    )
    targets = targets_of(*range(6))
    shifted = targets[:, :1] + torch.tensor([2.0, 0, 0, 0, 0, 2, 0, 2, 0, 0, 0])
    targets = torch.cat([targets, shifted], 1)
    found = task.predict(say_truth(targets))
    metrics = task.metrics()
    metrics.update(found, targets, torch.ones(6, dtype=torch.bool), torch.zeros(6))
    assert metrics.values().metrics["map"] == pytest.approx(1)
    # The views of one image find its objects again and again.
    _, merged = task.merge_views([say_truth(targets[:1])] * 2)
    kept = merged[0, merged[0, :, 6] >= 0]
    assert (kept[:, 5] > 0.5).sum() < len(targets[0])


@given(seed=st.integers(0, 50), queries=st.integers(1, 5), objects=st.integers(0, 4))
def test_queries_and_objects_are_matched_at_the_least_cost(seed: int, queries: int, objects: int):
    random = np.random.default_rng(seed)
    costs = torch.from_numpy(random.normal(size=(1, 1, queries, objects + 1)))
    counts = torch.ones(1, objects + 1, dtype=torch.bool)
    counts[0, random.integers(objects + 1)] = False
    owners = find_matches(costs, counts)[0, 0]
    numbers = counts[0].nonzero()[:, 0].tolist()
    chosen = [int(owner) for owner in owners if owner >= 0]
    assert len(set(chosen)) == len(chosen) == min(queries, objects)
    assert set(chosen) <= set(numbers)
    total = sum(
        float(costs[0, 0, query, owner]) for query, owner in enumerate(owners) if owner >= 0
    )
    matrix = costs[0, 0, :, numbers]
    if queries < objects:
        matrix = matrix.T
    pairs = [
        sum(float(matrix[row, column]) for column, row in enumerate(rows))
        for rows in permutations(range(matrix.shape[0]), matrix.shape[1])
    ]
    assert total == pytest.approx(min(pairs))


@pytest.mark.parametrize("head", DETR_LEVELS)
def test_the_loss_is_that_of_transformers_but_for_the_weight_of_classes(head: str):
    from transformers import RTDetrV2Config
    from transformers.loss.loss_deformable_detr import (
        DeformableDetrHungarianMatcher,
        DeformableDetrImageLoss,
    )
    from transformers.loss.loss_rt_detr import RTDetrLoss

    logits, boxes = outputs_of(1)
    targets = targets_of(3)
    truth = read_truth(targets, oriented=False)
    real = truth.counts[0]
    labels = [{"class_labels": truth.labels[0, real], "boxes": truth.boxes[0, real, :4] / SIDE}]
    theirs: torch.nn.Module
    if head == "rt_detr_v2":
        theirs = RTDetrLoss(RTDetrV2Config(num_labels=len(CLASSES)))
        weights = {"loss_vfl": 1, "loss_bbox": 1, "loss_giou": 1}  # weighted by themselves
    else:
        matcher = DeformableDetrHungarianMatcher(class_cost=2, bbox_cost=5, giou_cost=2)
        theirs = DeformableDetrImageLoss(matcher, len(CLASSES), 0.25, ["labels", "boxes"])
        weights = {"loss_ce": 2, "loss_bbox": 5, "loss_giou": 2}  # as in the paper's code
    expected = 0.0
    for layer in range(LAYERS):
        said = {"logits": logits[:, layer], "pred_boxes": boxes[:, layer, :, :4] / SIDE}
        losses = theirs(said, labels)
        expected += sum(float(losses[name]) * weight for name, weight in weights.items())
    assert real.sum() == 4
    found = meaning_of(head, mean_objects=4).losses((logits, boxes), targets)
    assert found.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("head", DETR_LEVELS)
def test_the_loss_of_an_image_does_not_depend_on_its_batch(head: str):
    meaning = meaning_of(head, mean_objects=4)
    logits, boxes = outputs_of(4)
    targets = targets_of(0, 1, 2, 3)
    targets[3, :, LABEL] = -1  # an image without objects
    whole = meaning.losses((logits, boxes), targets)
    assert whole.shape == (4,) and whole.dtype == torch.float32 and whole.isfinite().all()
    padded = torch.cat([targets, torch.full((4, 3, WIDTH), -1.0)], 1)
    alone = [
        meaning.losses((logits[[row]], boxes[[row]]), padded[[row]])[0] for row in (2, 0, 3, 1)
    ]
    assert torch.allclose(torch.stack(alone), whole[[2, 0, 3, 1]], rtol=1e-5)
    twice = meaning_of(head, mean_objects=2).losses((logits, boxes), targets)
    assert torch.allclose(twice, 2 * whole)


@pytest.mark.parametrize("head", DETR_LEVELS)
def test_a_query_in_an_ignored_object_is_no_background_unless_it_has_an_object(head: str):
    meaning = meaning_of(head)
    targets = targets_of(0)
    targets[0, 1:, FLAGS] = IGNORED
    targets[0, 1:, HULL] = torch.tensor([0.0, 0.0, 24.0, 24.0])
    logits, boxes = outputs_of(1)
    boxes[:, :, :, :2] = 12.0  # of all queries, in the ignored hull
    boxes[:, :, 0] = truth_boxes(targets[:, None, 0], oriented=False)
    logits.requires_grad_()
    boxes.requires_grad_()
    meaning.losses((logits, boxes), targets).sum().backward()
    assert (logits.grad[:, :, 0] != 0).all() and (logits.grad[:, :, 1:] == 0).all()
    assert (boxes.grad[:, :, 1:] == 0).all()
    # Outside of it they are background; difficult objects are learnt as others.
    targets[0, 1:, HULL] += 40
    logits.grad = None
    meaning.losses((logits, boxes), targets).sum().backward()
    assert (logits.grad[:, :, 1:] != 0).all()
    plain = targets_of(0)
    hard = plain.clone()
    hard[..., FLAGS] = DIFFICULT
    losses = [meaning.losses((logits, boxes), each) for each in (plain, hard)]
    assert torch.equal(*losses)


@pytest.mark.parametrize("head", DETR_LEVELS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_losses_under_autocast_are_those_without(head: str, dtype: torch.dtype):
    meaning = meaning_of(head)
    outputs, targets = outputs_of(2), targets_of(0, 1)
    plain = meaning.losses(outputs, targets)
    with torch.autocast("cpu", dtype):
        half = meaning.losses(outputs, targets)
    assert half.dtype == torch.float32 and torch.allclose(half, plain, rtol=1e-5)


def test_what_is_not_finite_is_matched_last_and_never_an_error():
    truth = read_truth(targets_of(0), oriented=False)
    logits, boxes = outputs_of(1)
    logits[0, 0, 0], boxes[0, 0, 1] = torch.nan, torch.inf
    cost = cost_of_matches(logits[:, 0], boxes[:, 0], truth, SIDES)
    owners = find_matches(cost[:, None], truth.counts)[0, 0]
    assert (owners[:2] < 0).all() and (owners[2:] >= 0).sum() == 4


@pytest.mark.slow
@pytest.mark.parametrize("head", DETR_LEVELS)
def test_a_small_detector_learns_eight_images_by_heart(head: str):
    torch.manual_seed(0)
    side = 96
    config = config_of(head, head_width=64, max_detections=20)
    task = DetectionTask(config, CLASSES, mean_objects=4)
    network = task.build_network(
        ModelConfig(name="test_resnet"), in_chans=3, image_size=side, storage=AWS, bands=()
    )
    assert learn_by_heart(task, network, side, steps=200, rate=1e-3, clip=1.0) > 0.7
