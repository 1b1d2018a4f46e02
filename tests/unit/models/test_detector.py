"""A detector on any of the nine: any size, boxes in the image's pixels, each weight trained."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rsdl.config.model import ModelConfig
from rsdl.config.optim import OptimConfig
from rsdl.config.task import DetectionConfig
from rsdl.core.errors import ConfigError
from rsdl.core.image_size import ImageSize
from rsdl.models.catalog import ARCHITECTURES
from rsdl.models.detector import Detector, build_detector, strides_of
from rsdl.models.heads.dense import cell_centres, decode
from rsdl.tasks.assignment import levels_of, num_cells
from rsdl.train.optim import build_optimizer


def options(**fields: object) -> DetectionConfig:
    return DetectionConfig.model_validate({"name": "detection", "head_width": 32, **fields})


def build(name: str, image_size: ImageSize, **fields: object) -> Detector:
    return build_detector(
        ModelConfig(name=name), options(**fields), num_classes=3, in_chans=4, image_size=image_size
    )


@pytest.mark.parametrize(("boxes", "levels"), [("oriented", (3, 7)), ("aligned", (2, 6))])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_of_the_nine_has_a_box_a_cell_and_trains_every_parameter(
    name: str, boxes: str, levels: tuple[int, int]
):
    with torch.device("meta"):  # shapes and gradients, without values
        network = build(name, (96, 160), boxes=boxes, levels=levels)
        logits, found = network(torch.empty(2, 4, 96, 160))
    cells = num_cells(levels_of((96, 160), strides_of(options(levels=levels))))
    assert logits.shape == (2, cells, 3) and found.shape == (2, cells, 5)
    (logits.sum() + found.sum()).backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext"])
@pytest.mark.parametrize("size", [(32, 32), (40, 70), (33, 64)])
def test_boxes_of_an_image_that_is_padded_are_where_they_are_in_the_padded_one(
    name: str, size: tuple[int, int]
):
    torch.manual_seed(0)
    network = build(name, size, boxes="oriented").eval()
    images = torch.randn(1, 4, *size)
    with torch.inference_mode():
        logits, boxes = network(images)
        padded = network.pad(images)
        assert padded.shape[2] % 32 == padded.shape[3] % 32 == 0
        assert torch.equal(padded[:, :, : size[0], : size[1]], images)
        _, whole = network(padded)
    first, wide = levels_of(size, (8,))[0], levels_of((padded.shape[2], padded.shape[3]), (8,))[0]
    assert logits.shape[1] == num_cells(levels_of(size, (8, 16, 32, 64, 128)))
    # The first cell is far enough from the edge to see the same.
    assert torch.allclose(boxes[:, 0, :2], whole[:, 0, :2], atol=2.0)
    own = boxes[0, : first.rows * first.columns].view(first.rows, first.columns, 5)
    other = whole[0, : wide.rows * wide.columns].view(wide.rows, wide.columns, 5)
    assert torch.allclose(own[..., :2], other[: first.rows, : first.columns, :2], atol=4.0)


@given(
    x=st.floats(0, 500), y=st.floats(0, 500), w=st.floats(2, 400), h=st.floats(2, 400),
    angle=st.floats(-1.5, 1.5), length=st.floats(0.1, 10),
)  # fmt: skip
def test_a_box_at_any_angle_is_what_a_cell_says(
    x: float, y: float, w: float, h: float, angle: float, length: float
):
    stride = 16
    points = cell_centres(2, 3, stride, device=torch.device("cpu"))
    assert points.tolist() == [[8, 8], [24, 8], [40, 8], [8, 24], [24, 24], [40, 24]]
    at = points[4].tolist()
    sides = math.log(w / stride / 2), math.log(h / stride / 2)
    turn = length * math.cos(2 * angle), length * math.sin(2 * angle)
    raw = [(x - at[0]) / stride, (y - at[1]) / stride, *sides, *turn]
    found = decode(torch.tensor([[raw]]), points[4:5], stride, torch.ones(()))[0, 0]
    assert found.tolist() == pytest.approx([x, y, w, h, angle], rel=1e-3, abs=1e-2)
    upright = decode(torch.tensor([[raw[:4]]]), points[4:5], stride, torch.ones(()))[0, 0]
    assert upright.tolist() == pytest.approx([x, y, w, h, 0], rel=1e-3, abs=1e-2)


def test_a_cell_that_says_no_angle_has_a_finite_gradient():
    raw = torch.zeros(1, 1, 6, requires_grad=True)
    decode(raw, torch.zeros(1, 2), 8, torch.ones(())).sum().backward()
    assert raw.grad is not None and raw.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_boxes_of_half_precision_are_computed_in_float32(dtype: torch.dtype):
    network = build("test_vit", 64, boxes="oriented").eval()
    with torch.inference_mode(), torch.autocast("cpu", dtype):
        logits, boxes = network(torch.randn(1, 4, 64, 64))
    assert logits.dtype == boxes.dtype == torch.float32
    # Centres at 60.5 px need more digits than 8 bits of a bfloat16.
    assert (boxes[..., :2] != boxes[..., :2].to(dtype).float()).any()


def test_frozen_norms_keep_their_statistics_in_training():
    network = build("test_resnet", 64, freeze_norm=True)
    before = {k: v.clone() for k, v in network.state_dict().items() if "running_mean" in k}
    network(torch.randn(2, 4, 64, 64) * 5 + 3)
    assert before and all(torch.equal(network.state_dict()[k], v) for k, v in before.items())


def test_layer_decay_knows_the_layers_of_the_backbone():
    network = build("test_vit", 64)
    optimizer = build_optimizer(OptimConfig(lr=1.0, layer_decay=0.5), network)
    names = {id(weight): name for name, weight in network.named_parameters()}
    scales = {
        names[id(weight)]: group["lr_scale"]
        for group in optimizer.param_groups
        for weight in group["params"]
    }
    assert {scale for name, scale in scales.items() if name.startswith("decoder.")} == {1.0}
    assert max(scale for name, scale in scales.items() if name.startswith("backbone.")) <= 0.5


def test_a_transformer_with_other_patches_is_refused():
    with torch.device("meta"), pytest.raises(ConfigError, match=r"model\.name: has patches of 32"):
        build("vit_base_patch32_224", 224)
