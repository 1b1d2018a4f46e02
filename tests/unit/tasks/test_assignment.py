"""Which cell learns which object, and what it costs; ignored objects are neither."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rsdl.config.model import ModelConfig
from rsdl.config.task import DetectionConfig
from rsdl.data.targets.objects import DIFFICULT, FLAGS, HULL, IGNORED, LABEL, RECTANGLE, WIDTH
from rsdl.data.targets.rectangles import hulls
from rsdl.models.detector import build_detector, strides_of
from rsdl.models.heads.dense import cell_centres
from rsdl.tasks.assignment import (
    FREE,
    Level,
    assign,
    ignored_cells,
    levels_of,
    num_cells,
    read_truth,
)
from rsdl.tasks.box_losses import detection_losses

CLASSES = 4
STRIDES = (8, 16, 32)


def scatter(
    seed: int, rows: int = 2, count: int = 5, side: int = 128, padded: int = 8
) -> tuple[Tensor, tuple[Level, ...]]:
    """Return targets of random rectangles, and the levels of their images."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand((rows, count), generator=generator) * (high - low) + low

    targets = torch.zeros(rows, padded, WIDTH)
    targets[..., 2:4], targets[..., LABEL] = 1, -1
    boxes = torch.stack(
        [uniform(0, side), uniform(0, side), uniform(6, 50), uniform(6, 50), uniform(-1.5, 1.5)], -1
    )
    targets[:, :count, RECTANGLE] = boxes
    targets[:, :count, HULL] = hulls(boxes, oriented=True).clamp(0, side)
    targets[:, :count, LABEL] = uniform(0, CLASSES).floor()
    return targets, levels_of(side, STRIDES)


def outputs_of(levels: tuple[Level, ...], rows: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return what a network says at the start of training: low logits, boxes of two cells."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for _, tall, wide, stride in levels:
        points = cell_centres(tall, wide, stride, device=torch.device("cpu"))
        sides = torch.full_like(points, 2.0 * stride)
        parts.append(torch.cat([points, sides, torch.zeros(len(points), 1)], 1))
    boxes = torch.cat(parts).expand(rows, -1, 5)
    boxes = boxes + torch.randn(boxes.shape, generator=generator) * 0.1
    logits = torch.randn((rows, boxes.shape[1], CLASSES), generator=generator) - 4
    return logits.requires_grad_(), boxes.requires_grad_()


@pytest.mark.parametrize("oriented", [False, True])
@given(seed=st.integers(0, 50))
def test_cells_of_an_object_are_near_its_centre_and_padding_has_none(oriented: bool, seed: int):
    targets, levels = scatter(seed)
    logits, boxes = outputs_of(levels)
    truth = read_truth(targets, oriented=oriented)
    owners = assign(logits, boxes, truth, levels, oriented=oriented)
    assert owners.shape == (2, num_cells(levels)) and owners.min() == FREE
    assert owners.max() < 5  # of padding nothing
    for first, tall, wide, stride in levels:
        points = cell_centres(tall, wide, stride, device=torch.device("cpu"))
        own = owners[:, first : first + tall * wide]
        for row in range(2):
            for cell in torch.nonzero(own[row] >= 0).flatten().tolist():
                centre = truth.boxes[row, own[row, cell], :2]
                assert ((points[cell] - centre).abs() <= 2.5 * stride).all()


@given(seed=st.integers(0, 50))
def test_a_lone_object_has_a_cell_wherever_it_lies(seed: int):
    targets, levels = scatter(seed, count=1)
    logits, boxes = outputs_of(levels)
    truth = read_truth(targets, oriented=True)
    owners = assign(logits, boxes, truth, levels, oriented=True)
    assert ((owners == 0).sum(1) >= 1).all()


def test_cells_take_the_object_that_they_predict_best():
    targets, levels = scatter(0, rows=1, count=2)
    targets[0, 0, RECTANGLE] = torch.tensor([60.0, 60, 40, 10, 0.5])
    targets[0, 1, RECTANGLE] = torch.tensor([60.0, 60, 10, 40, 0.5])
    logits, boxes = (each.detach().clone() for each in outputs_of(levels, 1))
    near = ((boxes[0, :, :2] - 60).abs() < 12).all(1)
    boxes[0, near] = targets[0, 1, RECTANGLE]
    owners = assign(logits, boxes, read_truth(targets, oriented=True), levels, oriented=True)
    assert (owners[0, near] == 1).sum() >= 3 and not (owners[0, near] == 0).any()


@given(seed=st.integers(0, 100))
def test_ignored_cells_are_those_that_touch_an_ignored_hull(seed: int):
    targets, levels = scatter(seed)
    targets[:, ::2, FLAGS] = IGNORED
    truth = read_truth(targets, oriented=False)
    found = ignored_cells(truth, levels)
    for first, tall, wide, stride in levels:
        for row in range(2):
            wanted = torch.zeros(tall, wide, dtype=torch.bool)
            for left, top, right, bottom in truth.hulls[row, truth.ignored[row]].tolist():
                x, y = torch.arange(wide) * stride, torch.arange(tall) * stride
                across, down = (x < right) & (x + stride > left), (y < bottom) & (y + stride > top)
                wanted |= down[:, None] & across
            part = found[row, first : first + tall * wide].view(tall, wide)
            assert torch.equal(part, wanted)


@pytest.mark.parametrize("oriented", [False, True])
def test_an_ignored_object_is_neither_an_object_nor_background(oriented: bool):
    targets, levels = scatter(3)
    targets[0, :5, FLAGS] = IGNORED
    logits, boxes = outputs_of(levels)
    truth = read_truth(targets, oriented=oriented)
    losses = detection_losses(logits, boxes, truth, levels, oriented=oriented)
    losses.sum().backward()
    assert logits.grad is not None and boxes.grad is not None
    ignored = ignored_cells(truth, levels)
    assert ignored[0].any() and not ignored[1].any()
    assert (logits.grad[0, ignored[0]] == 0).all() and (logits.grad[0, ~ignored[0]] != 0).all()
    assert (boxes.grad[0] == 0).all() and (boxes.grad[1] != 0).any()
    # A cell of an object that counts learns it, though an ignored object lies over it.
    targets[0, 0, FLAGS] = 0
    logits.grad = None
    truth = read_truth(targets, oriented=oriented)
    owned = assign(logits, boxes, truth, levels, oriented=oriented)[0] == 0
    detection_losses(logits, boxes, truth, levels, oriented=oriented).sum().backward()
    assert logits.grad is not None and owned.any() and (logits.grad[0, owned] != 0).all()


def test_difficult_objects_are_learnt_as_others():
    targets, levels = scatter(4)
    logits, boxes = outputs_of(levels)
    plain = detection_losses(
        logits, boxes, read_truth(targets, oriented=True), levels, oriented=True
    )
    targets[:, :3, FLAGS] = DIFFICULT
    hard = detection_losses(
        logits, boxes, read_truth(targets, oriented=True), levels, oriented=True
    )
    assert torch.equal(plain, hard)


@pytest.mark.parametrize("oriented", [False, True])
def test_the_loss_of_a_row_does_not_depend_on_other_rows_or_on_padding(oriented: bool):
    targets, levels = scatter(5, rows=4)
    logits, boxes = outputs_of(levels, 4)
    whole = detection_losses(
        logits, boxes, read_truth(targets, oriented=oriented), levels, oriented=oriented
    )
    for row in range(4):
        few = targets[row : row + 1, :5]
        alone = detection_losses(
            logits[row : row + 1], boxes[row : row + 1], read_truth(few, oriented=oriented), levels,
            oriented=oriented,
        )  # fmt: skip
        assert torch.allclose(alone, whole[row : row + 1], rtol=1e-5)


@pytest.mark.parametrize("oriented", [False, True])
def test_an_image_without_objects_is_background_with_a_finite_gradient(oriented: bool):
    targets, levels = scatter(6)
    targets[..., LABEL] = -1
    logits, boxes = outputs_of(levels)
    truth = read_truth(targets, oriented=oriented)
    losses = detection_losses(logits, boxes, truth, levels, oriented=oriented)
    losses.sum().backward()
    assert logits.grad is not None and boxes.grad is not None
    assert (losses > 0).all() and losses.isfinite().all()
    assert (logits.grad > 0).all() and (boxes.grad == 0).all()


@pytest.mark.parametrize("oriented", [False, True])
def test_a_right_prediction_costs_less_than_a_wrong_class_or_place(oriented: bool):
    targets, levels = scatter(7, rows=1, count=1)
    truth = read_truth(targets, oriented=oriented)
    logits, boxes = (each.detach().clone() for each in outputs_of(levels, 1))

    def loss(label: int, box: Tensor) -> float:
        moved, said = boxes.clone(), logits.clone() - 4
        owned = assign(logits, boxes, truth, levels, oriented=oriented)[0] == 0
        moved[0, owned] = box
        said[0, owned, label] = 6.0
        losses = detection_losses(said, moved, truth, levels, oriented=oriented)
        return float(losses)

    label, box = int(truth.labels[0, 0]), truth.boxes[0, 0]
    right = loss(label, box)
    assert right < 0.6 * loss((label + 1) % CLASSES, box)
    assert right < 0.6 * loss(label, box + torch.tensor([9.0, 9, 0, 0, 0]))


class Largest(TorchDispatchMode):
    """Remembers the most elements of any tensor that is made."""

    elements = 0

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401
        types: Any,  # noqa: ANN401
        args: Any = (),  # noqa: ANN401
        kwargs: Any = None,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        found = func(*args, **(kwargs or {}))
        for each in found if isinstance(found, tuple | list) else (found,):
            if isinstance(each, Tensor):
                self.elements = max(self.elements, each.untyped_storage().nbytes() // 4)
        return found


@pytest.mark.parametrize("oriented", [False, True])
def test_memory_grows_with_objects_and_with_cells_but_not_with_both(oriented: bool):
    found = []
    for side in (256, 512):
        targets, levels = scatter(8, rows=1, count=200, side=side, padded=256)
        outputs = outputs_of(levels, 1)
        with Largest() as largest:
            detection_losses(
                *outputs, read_truth(targets, oriented=oriented), levels, oriented=oriented
            )
        found.append(largest.elements)
    cells = num_cells(levels)
    assert found[1] < 1.3 * max(found[0], 20 * cells)
    assert found[1] < cells * 256 / 2


@pytest.mark.parametrize("oriented", [False, True])
def test_network_assignment_and_loss_compile_into_one_graph(oriented: bool):
    torch.manual_seed(0)
    targets, _ = scatter(9, side=64)
    kind = "oriented" if oriented else "aligned"
    options = DetectionConfig(name="detection", boxes=kind, head_width=32)
    network = build_detector(
        ModelConfig(name="test_resnet"), options, num_classes=CLASSES, in_chans=3, image_size=64
    ).eval()
    levels = levels_of(64, strides_of(options))

    def step(images: Tensor, targets: Tensor) -> Tensor:
        truth = read_truth(targets, oriented=oriented)
        logits, boxes = network(images)
        return detection_losses(logits, boxes, truth, levels, oriented=oriented)

    images = torch.randn(2, 3, 64, 64)
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    found = compiled(images, targets)
    assert torch.allclose(found, step(images, targets), rtol=1e-4)
    found.sum().backward()
    assert all(weight.grad is not None for weight in network.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_losses_of_a_large_image_are_finite_under_autocast(dtype: torch.dtype):
    targets, levels = scatter(10, side=1024)
    outputs = outputs_of(levels)
    truth = read_truth(targets, oriented=True)
    plain = detection_losses(*outputs, truth, levels, oriented=True)
    with torch.autocast("cpu", dtype):
        cast = detection_losses(*outputs, truth, levels, oriented=True)
    assert cast.dtype == torch.float32 and torch.allclose(cast, plain, rtol=1e-3)
