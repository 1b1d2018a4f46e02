"""torchvision's heads on our pyramid: the losses are its own, image by image, without chance."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, BoxCoder, Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import box_iou

from rsdl.config.model import ModelConfig
from rsdl.config.task import DetectionConfig
from rsdl.data.targets.objects import FLAGS, HULL, IGNORED, LABEL
from rsdl.models.heads import faster_rcnn
from rsdl.models.heads.anchors import decode, encode, to_centres, to_sides
from rsdl.storage.s3.endpoint import AWS
from rsdl.tasks.detection import DetectionTask
from rsdl.tasks.heads.faster_rcnn import SCALES, mean_of_sample
from rsdl.tasks.heads.fcos import FcosDetection
from rsdl.tasks.heads.matching import match_by_iou, read_images
from rsdl.tasks.heads.retinanet import RetinaNetDetection
from tests.drawn_objects import CLASSES
from tests.unit.tasks.drawn_batch import learn_by_heart, targets_of

HEADS = ("fcos", "retinanet", "faster_rcnn")
SIZE = (64, 96)


def config_of(head: str, **fields: object) -> DetectionConfig:
    plain = {"name": "detection", "head": head, "head_width": 32, "levels": (3, 5)}
    return DetectionConfig.model_validate({**plain, **fields})


def build(
    head: str, name: str = "test_resnet", size: tuple[int, int] = SIZE, **fields: object
) -> tuple[DetectionTask, nn.Module]:
    """Return a task and its network, whose weights are always the same."""
    torch.manual_seed(0)
    task = DetectionTask(config_of(head, **fields), CLASSES)
    network = task.build_network(
        ModelConfig(name=name, weights="none"), in_chans=3, image_size=size, storage=AWS, bands=()
    )
    return task, network


def say(head: str, rows: int = 2, seed: int = 0) -> tuple[DetectionTask, tuple[Tensor, ...]]:
    """Return a task, and what its network, of random weights, says of images."""
    task, network = build(head)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        found = network.eval()(torch.randn(rows, 3, *SIZE, generator=generator))
    return task, tuple(each + 0.3 * _noise(each, generator) for each in found)


def _noise(each: Tensor, generator: torch.Generator) -> Tensor:
    # Of distances and proposals, which are not negative, and of padding nothing.
    noise = torch.randn(each.shape, generator=generator)
    return torch.zeros_like(each) if (each >= 0).all() else noise


def as_torchvision(targets: Tensor) -> list[dict[str, Tensor]]:
    real = [each[each[:, LABEL] >= 0] for each in targets]
    return [{"boxes": each[:, HULL], "labels": each[:, LABEL].long()} for each in real]


class _Backbone(nn.Module):
    out_channels = 32


@given(seed=st.integers(0, 40))
def test_loss_of_fcos_is_that_of_torchvision(seed: int):
    meaning = FcosDetection(config_of("fcos"), SIZE, 1.0)
    generator = torch.Generator().manual_seed(seed)
    cells = meaning._cells(torch.empty(1, 8 * 12 + 4 * 6 + 2 * 3, 3))
    logits = torch.randn(1, len(cells), 3, generator=generator) - 2
    distances = torch.rand(1, len(cells), 4, generator=generator) * 6
    centreness = torch.randn(1, len(cells), 1, generator=generator)
    targets = targets_of(seed, count=seed % 6)
    anchors = to_sides(torch.cat([cells, cells[:, 2:]], 1))
    sizes = ((8,), (16,), (32,))
    theirs = FCOS(
        _Backbone(), 3, anchor_generator=AnchorGenerator(sizes, ((1.0,),) * 3)
    ).compute_loss(
        as_torchvision(targets),
        {"cls_logits": logits, "bbox_regression": distances, "bbox_ctrness": centreness},
        [anchors],
        [96, 24, 6],
    )
    ours = meaning.losses((logits, distances, centreness), targets)
    assert torch.allclose(ours[0], torch.stack(list(theirs.values())).sum(), rtol=1e-4)


@given(seed=st.integers(0, 40))
def test_loss_of_retinanet_is_that_of_torchvision(seed: int):
    meaning = RetinaNetDetection(config_of("retinanet"), SIZE, 1.0)
    generator = torch.Generator().manual_seed(seed)
    anchors = meaning._anchors(torch.empty(1, 9 * (8 * 12 + 4 * 6 + 2 * 3), 3))
    logits = torch.randn(1, len(anchors), 3, generator=generator) - 2
    codes = torch.randn(1, len(anchors), 4, generator=generator)
    targets = targets_of(seed, count=seed % 6)
    model = RetinaNet(_Backbone(), 3, anchor_generator=meaning.anchors)
    theirs = model.compute_loss(
        as_torchvision(targets),
        {"cls_logits": logits, "bbox_regression": codes},
        [to_sides(anchors)],
    )
    ours = meaning.losses((logits, codes), targets)
    assert torch.allclose(ours[0], torch.stack(list(theirs.values())).sum(), rtol=1e-4)


@given(seed=st.integers(0, 200), best=st.booleans())
def test_anchors_are_matched_as_by_torchvision(seed: int, best: bool):
    generator = torch.Generator().manual_seed(seed)
    places = torch.rand(200, 4, generator=generator) * 40
    anchors = torch.cat([places[:, :2] + 12, places[:, 2:] + 4], 1)
    (truth,) = read_images(targets_of(seed, count=5))
    found = match_by_iou(anchors, truth, low=0.3, high=0.6, keep_best=best)
    overlaps = box_iou(to_sides(truth.boxes[truth.counts]), to_sides(anchors))
    if (overlaps.amax(1) > 0).all():  # what overlaps nothing has no best anchors here
        assert torch.equal(found, Matcher(0.6, 0.3, allow_low_quality_matches=best)(overlaps))


@given(seed=st.integers(0, 50))
def test_codes_of_boxes_are_those_of_torchvision(seed: int):
    generator = torch.Generator().manual_seed(seed)
    boxes, anchors = torch.rand(2, 20, 4, generator=generator) * 90 + 5
    theirs = BoxCoder((10.0, 10.0, 5.0, 5.0))
    codes = encode(boxes, anchors, SCALES)
    sides = to_sides(boxes), to_sides(anchors)
    assert torch.allclose(codes, theirs.encode_single(*sides), rtol=1e-3, atol=1e-4)
    assert torch.allclose(decode(codes, anchors, SCALES), boxes, rtol=1e-3, atol=1e-3)
    wild = codes * 20
    there = to_centres(theirs.decode_single(wild, sides[1]))
    assert torch.allclose(decode(wild, anchors, SCALES), there, rtol=1e-3, atol=0.5)


@pytest.mark.parametrize(("objects", "others"), [(3, 5), (40, 6), (20, 300), (0, 50), (200, 0)])
def test_the_loss_of_all_anchors_is_that_of_a_random_sample_on_average(objects: int, others: int):
    torch.manual_seed(0)
    number, size, share = objects + others + 7, 64, 0.25
    unsure, apart = torch.rand(number) * 3, torch.rand(number)
    kinds = torch.cat([torch.ones(objects), torch.zeros(others), torch.full((7,), -1.0)])
    kinds = kinds[torch.randperm(number)]
    ours = mean_of_sample(unsure, apart, kinds == 1, kinds == 0, size=size, share=share)
    draw = BalancedPositiveNegativeSampler(size, share)
    sums = []
    for _ in range(400):
        (chosen,), (rest,) = draw([kinds])
        chosen, rest = chosen.bool(), rest.bool()
        total = (unsure + apart)[chosen].sum() + unsure[rest].sum()
        sums.append(total / (chosen | rest).sum())
    drawn = torch.stack(sums)
    assert abs(ours - drawn.mean()) < 4 * drawn.std() / 20 + 1e-5


@pytest.mark.parametrize("head", HEADS)
def test_losses_of_a_batch_are_those_of_each_image_and_draw_nothing(head: str):
    task, outputs = say(head, rows=3)
    targets = targets_of(0, 1, 2)
    before = torch.get_rng_state()
    whole = task.loss(outputs, targets, training=True)
    assert torch.equal(torch.get_rng_state(), before)
    assert whole.shape == (3,) and whole.dtype == torch.float32 and whole.isfinite().all()
    for row in range(3):
        own = tuple(each[row : row + 1] for each in outputs)
        alone = task.loss(own, targets[row : row + 1], training=True)
        assert torch.allclose(alone, whole[row], rtol=1e-5)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext"])
def test_each_kind_of_backbone_trains_every_parameter(head: str, name: str):
    task, network = build(head, name, levels=(2, 6), head_width=64)
    for targets in (targets_of(0, 1), targets_of(0, 1, count=0)):
        network.zero_grad()
        loss = task.loss(network(torch.randn(2, 3, *SIZE)), targets, training=True)
        assert loss.isfinite().all()
        loss.sum().backward()
        gradients = {key: weight.grad for key, weight in network.named_parameters()}
        assert [key for key, grad in gradients.items() if grad is None] == []
        assert all(grad.isfinite().all() for grad in gradients.values() if grad is not None)


@pytest.mark.parametrize("head", HEADS)
def test_what_is_said_in_ignored_objects_changes_nothing(head: str):
    task, outputs = say(head)
    outputs = tuple(each.requires_grad_() for each in outputs)
    targets = targets_of(3, 4)
    # Of each image all is one ignored object, and nothing is background or to be found.
    targets[:, 0, HULL] = torch.tensor([-1.0, -1, 97, 65])
    targets[:, 0, FLAGS], targets[:, 1:, LABEL] = IGNORED, -1
    assert (targets[:, 0, LABEL] >= 0).all()
    loss = task.loss(outputs, targets, training=True)
    assert (loss == 0).all()
    # The right half is, and an object is found on the left.
    targets = targets_of(3, 4)
    small = targets[:, :1].clone()
    small[..., HULL] = torch.tensor([8.0, 8, 26, 26])
    half = small.clone()
    half[..., HULL], half[..., FLAGS] = torch.tensor([48.0, -1, 97, 65]), IGNORED
    both = torch.cat([small, half], 1)
    with_ignored = task.loss(outputs, both, training=True)
    assert (with_ignored > 0).all()
    with_ignored.sum().backward()
    centres = _centres(head, task, outputs)
    logits = outputs[3 if head == "faster_rcnn" else 0].grad
    assert logits is not None
    assert (logits[centres > 49] == 0).all() and (logits[centres < 47] != 0).any()


def _centres(head: str, task: DetectionTask, outputs: tuple[Tensor, ...]) -> Tensor:
    meaning: Any = task._outputs
    if head == "fcos":
        return meaning._cells(outputs[0])[None, :, 0].expand(2, -1)
    if head == "retinanet":
        return meaning._anchors(outputs[0])[None, :, 0].expand(2, -1)
    return outputs[2][..., 0].detach()


@pytest.mark.parametrize("head", HEADS)
def test_a_head_that_says_the_truth_is_perfect(head: str):
    task, outputs = say(head)
    targets = targets_of(5, 6)
    outputs = _tell(head, task, tuple(each.clone() for each in outputs), targets)
    metrics = task.metrics()
    metrics.update(task.predict(outputs), targets, torch.ones(2, dtype=torch.bool), torch.zeros(2))
    assert metrics.values().metrics["map"] == pytest.approx(1)
    assert (task.predict(outputs)[..., 6] >= 0).sum() == (targets[..., LABEL] >= 0).sum()


def _tell(
    head: str, task: DetectionTask, outputs: tuple[Tensor, ...], targets: Tensor
) -> tuple[Tensor, ...]:
    """Return outputs of which the best are the objects, each said by one cell, or one anchor."""
    meaning: Any = task._outputs
    for row, truth in enumerate(read_images(targets)):
        boxes, labels = truth.boxes[truth.counts], truth.labels[truth.counts]
        if head == "faster_rcnn":
            _, _, proposals, logits, codes = (each[row] for each in outputs)
            proposals[:] = 0
            proposals[: len(boxes)] = boxes + 1
            logits[:] = 0
            logits[: len(boxes)] = -9
            for place, label in enumerate(labels):
                logits[place, 1 + label] = 9
                codes[place, 1 + label] = encode(boxes[place], proposals[place], SCALES)
            continue
        outputs[0][row] = -9
        if head == "retinanet":
            anchors = meaning._anchors(outputs[0])
            places = box_iou(to_sides(boxes), to_sides(anchors)).argmax(1)
            outputs[1][row, places] = encode(boxes, anchors[places])
        else:
            cells = meaning._cells(outputs[0])
            places = torch.cdist(boxes[:, :2], cells[:, :2]).argmin(1)
            low, high = to_sides(boxes).split(2, -1)
            at, side = cells[places, :2], cells[places, 2:]
            outputs[1][row, places] = torch.cat([at - low, high - at], 1) / side
            outputs[2][row, places] = 9
        outputs[0][row, places, labels] = 9
    return outputs


@pytest.mark.parametrize("head", ["fcos", "retinanet"])
def test_shapes_of_one_stage_heads_depend_on_no_value(head: str):
    # A tensor of the meta device has no values, so that nothing can wait for any.
    with torch.device("meta"):
        task, network = build(head)
        losses = task.loss(network(torch.empty(2, 3, *SIZE)), torch.empty(2, 8, 11), training=True)
        assert losses.shape == (2,)
        losses.sum().backward()
    assert all(weight.grad is not None for weight in network.parameters())


def test_proposals_are_of_one_number_best_first_and_inside():
    task, network = build("faster_rcnn")
    images = torch.randn(2, 3, *SIZE)
    outputs = network.eval()(images)
    proposals = outputs[2]
    assert not proposals.requires_grad and proposals.shape == (2, 378, 4)  # anchors of 64 x 96 px
    real = proposals[..., 2:].amin(-1) > 0
    assert real.any(1).all() and not real.all()
    assert (real.int().diff(dim=1) <= 0).all()  # padding comes last
    sides = to_sides(proposals)
    assert (sides >= -1e-4).all() and (sides <= torch.tensor([96, 64, 96, 64]) + 1e-4).all()
    assert (proposals[~real] == 0).all()
    for row in range(2):
        assert torch.allclose(network(images[row : row + 1])[2], proposals[row], atol=1e-3)
    found = task.predict(outputs)
    assert (found[..., 5] >= 0).all()


def test_anchors_after_inference_can_be_trained_with():
    task, network = build("retinanet")
    with torch.inference_mode():
        task.predict(network(torch.zeros(1, 3, *SIZE)))
    task.loss(network(torch.randn(2, 3, *SIZE)), targets_of(0, 1), training=True).sum().backward()


@pytest.mark.parametrize("head", HEADS)
def test_oriented_boxes_are_refused(head: str):
    with pytest.raises(ValidationError, match=r"head\n.*aligned boxes only.*task.head=dense"):
        config_of(head, boxes="oriented")


def test_a_depth_is_that_of_the_network_or_refused():
    for head in ("fcos", "faster_rcnn"):
        numbers = [
            sum(isinstance(part, nn.Conv2d) for part in build(head, head_depth=depth)[1].modules())
            for depth in (1, 2)
        ]
        assert numbers[0] < numbers[1]
    with pytest.raises(ValidationError, match="must be 4 with retinanet"):
        config_of("retinanet", head_depth=3)
    assert config_of("retinanet", head_depth=4) == config_of("retinanet")


def test_a_card_tells_what_the_outputs_of_a_head_are():
    dense = DetectionTask(config_of("dense", boxes="oriented"), CLASSES)
    dense.build_network(
        ModelConfig(name="test_resnet"), in_chans=3, image_size=SIZE, storage=AWS, bands=()
    )
    said = {head: build(head)[0].card().outputs for head in HEADS} | {"dense": dense.card().outputs}
    assert all(
        "logits of 3 classes, in the order of `labels.json`" in each for each in said.values()
    )
    assert "cell of the pyramid" in said["dense"] and "angle in radians" in said["dense"]
    assert "cell" in said["fcos"] and "distances" in said["fcos"]
    for head in ("retinanet", "faster_rcnn"):
        assert "anchor" in said[head] and "cell" not in said[head]


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_each_head_overfits_eight_images(head: str, monkeypatch: pytest.MonkeyPatch):
    # On a CPU 512 proposals of each image would take minutes.
    monkeypatch.setattr(faster_rcnn, "NUM_PROPOSALS", 64)
    monkeypatch.setattr(faster_rcnn, "HIDDEN", 128)
    side = 64
    levels = (3, 5) if head == "fcos" else (2, 5)  # anchors are larger than their cells
    task, network = build(head, size=(side, side), levels=levels, head_width=64)
    assert learn_by_heart(task, network, side, steps=150, rate=3e-3, clip=5.0) > 0.8
