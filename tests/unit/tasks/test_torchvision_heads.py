"""torchvision's heads on backbones of ours: every weight learns, and an image's loss is its own."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from rsdl.config.model import ModelConfig
from rsdl.config.task import TORCHVISION_HEADS, DetectionConfig
from rsdl.data.targets.base import Window
from rsdl.data.targets.objects import FLAGS, HULL, IGNORED, LABEL, WIDTH, ObjectList
from rsdl.storage.s3.endpoint import AWS
from rsdl.tasks.detection import DetectionTask
from tests.drawn_objects import CLASSES, draw_scene

SIDE = 96
HEADS = pytest.mark.parametrize("head", TORCHVISION_HEADS)


def build(
    head: str, name: str = "test_resnet", **fields: object
) -> tuple[DetectionTask, torch.nn.Module]:
    torch.manual_seed(0)
    given = {"name": "detection", "head": head, "head_width": 32, "max_detections": 50}
    task = DetectionTask(DetectionConfig.model_validate(given | fields), CLASSES, mean_objects=4)
    network = task.build_network(
        ModelConfig(name=name), in_chans=3, image_size=SIDE, storage=AWS, bands=()
    )
    return task, network


def scenes(*seeds: int) -> tuple[Tensor, Tensor]:
    """Return drawn images and their targets."""
    kind, window = ObjectList(), Window(0, 0, SIDE, SIDE)
    drawn = [draw_scene(seed, SIDE, 4) for seed in seeds]
    rows = [kind.crop(objects, window, (SIDE, SIDE), SIDE) for _, objects in drawn]
    images = torch.from_numpy(np.stack([image for image, _ in drawn])).permute(0, 3, 1, 2)
    return (images.float() - 110) / 50, torch.from_numpy(kind.collate(rows))


# Backbones with maps at all strides, and with one alone.
@HEADS
@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_vit"])
@pytest.mark.parametrize("levels", [(3, 7), (2, 6)])
def test_every_parameter_learns(head: str, name: str, levels: tuple[int, int]):
    task, network = build(head, name, levels=levels)
    images, targets = scenes(0, 1)
    losses = task.loss(network.train()(images), targets, training=True)
    assert losses.shape == (2,) and losses.dtype == torch.float32 and (losses > 0).all()
    losses.sum().backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []
    assert all(weight.grad.isfinite().all() for weight in network.parameters())
    found = task.predict(network.eval()(images))
    assert found.shape == (2, 50, 7) and found.isfinite().all() and (found[..., 4] == 0).all()


@HEADS
def test_the_loss_of_an_image_depends_on_no_other_and_on_no_random_number(head: str):
    task, network = build(head)
    images, targets = scenes(0, 1, 2, 3)
    targets[3, :, LABEL] = -1  # an image without objects
    network.eval()
    with torch.no_grad():
        state = torch.get_rng_state()
        whole = task.loss(network(images), targets, training=True)
        assert torch.equal(torch.get_rng_state(), state)
        padded = torch.cat([targets, torch.full((4, 3, WIDTH), -1.0)], 1)
        alone = [
            task.loss(network(images[[row]]), padded[[row]], training=True)[0]
            for row in (2, 0, 3, 1)
        ]
    assert whole.isfinite().all()
    assert torch.allclose(torch.stack(alone), whole[[2, 0, 3, 1]], rtol=1e-3)


@HEADS
def test_what_lies_in_an_ignored_object_is_no_background(head: str):
    """An image that is one ignored object has no loss; one without objects has."""
    task, network = build(head)
    images, targets = scenes(0)
    targets[..., LABEL] = -1
    with torch.no_grad():
        outputs = network.eval()(images)
        background = task.loss(outputs, targets, training=True).item()
        targets[0, 0, LABEL], targets[0, 0, FLAGS] = 0, IGNORED
        targets[0, 0, HULL] = torch.tensor([0.0, 0.0, 2 * SIDE, 2 * SIDE])
        ignored = task.loss(outputs, targets, training=True).item()
    # Larger than the image, as the cells of the coarsest map are.
    assert 0 <= ignored < 0.05 * background


@HEADS
def test_turned_boxes_and_depth_are_refused(head: str):
    with pytest.raises(ValidationError, match=r"aligned boxes only; set task\.boxes=aligned, or"):
        build(head, boxes="oriented")
    with pytest.raises(ValidationError, match=f"has no effect on {head}"):
        build(head, head_depth=4)
    assert build(head, head_depth=2)  # as a run's config says it


@pytest.mark.slow
@pytest.mark.parametrize(("head", "rate", "steps"), [("fcos", 2e-3, 120), ("retinanet", 1e-3, 200)])
def test_a_small_detector_learns_eight_images_by_heart(head: str, rate: float, steps: int):
    task, network = build(head, head_width=64, levels=(2, 5), max_detections=20)
    images, targets = scenes(*range(8))
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    network.train()
    for _ in range(steps):
        loss = task.loss(network(images), targets, training=True).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        schedule.step()
    metrics = task.metrics()
    with torch.inference_mode():
        found = task.predict(network.eval()(images))
    metrics.update(found, targets, torch.ones(8, dtype=torch.bool), torch.zeros(8))
    assert metrics.values().metrics["ap50"] > 0.8
