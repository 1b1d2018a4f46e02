"""DETR-type heads of transformers on backbones of ours: they build, and every weight learns."""

from collections.abc import Callable
from importlib.util import find_spec

import pytest
import torch
from pydantic import ValidationError

from rsdl.config.load import validate
from rsdl.config.model import ModelConfig
from rsdl.config.task import DETR_LEVELS, DetectionConfig
from rsdl.core.errors import ConfigError, ConfigErrors
from rsdl.core.image_size import ImageSize
from rsdl.models.catalog import ARCHITECTURES
from rsdl.models.detector import Detector, build_detector
from rsdl.models.heads import detr
from rsdl.models.probe import measure_cost

Require = Callable[[str, bool], None]
SMALL = {"name": "detection", "head_width": 32, "head_depth": 2, "max_detections": 20}


@pytest.fixture(autouse=True)
def _installed(require: Require) -> None:
    require("detr", all(find_spec(name) is not None for name in detr.PACKAGES))


def options(head: str, **fields: object) -> DetectionConfig:
    return DetectionConfig.model_validate(SMALL | {"head": head} | fields)


def build(name: str, image_size: ImageSize, head: str, **fields: object) -> Detector:
    return build_detector(
        ModelConfig(name=name), options(head, **fields), num_classes=3, in_chans=4,
        image_size=image_size,
    )  # fmt: skip


@pytest.mark.parametrize("head", DETR_LEVELS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_of_the_nine_has_a_box_for_each_query_of_each_layer(name: str, head: str):
    with torch.device("meta"):  # shapes without values
        network = build(name, (96, 160), head).eval()
        logits, boxes = network(torch.empty(2, 4, 96, 160))
    layers = 2 if head == "deformable_detr" else 3  # the encoder's, too
    assert logits.shape == (2, layers, 20, 3) and boxes.shape == (2, layers, 20, 5)
    assert measure_cost(network, in_chans=4, image_size=(96, 160)).flops > 0


def test_the_narrowest_head_learns_from_one_image_whose_coarsest_map_is_one_cell():
    logits, _ = build("test_resnet", 64, "deformable_detr").train()(torch.randn(1, 4, 64, 64))
    assert logits.isfinite().all()


# Backbones with maps at all strides, and with one alone; images that are padded.
@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_vit"])
@pytest.mark.parametrize(
    ("head", "levels"),
    [("deformable_detr", (3, 6)), ("deformable_detr", (2, 7)), ("rt_detr_v2", (3, 5)),
     ("rt_detr_v2", (2, 5))],
)  # fmt: skip
def test_every_parameter_learns_after_an_evaluation(name: str, head: str, levels: tuple[int, int]):
    network = build(name, (70, 130), head, levels=levels)
    images = torch.randn(2, 4, 70, 130)
    with torch.inference_mode():  # what transformers keeps of it must not stand in the way
        network.eval()(images)
    logits, boxes = network.train()(images)
    assert logits.dtype == boxes.dtype == torch.float32
    (logits.square().sum() + boxes.square().mean()).backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []
    assert (boxes[..., :4] >= 0).all() and (boxes[..., 4] == 0).all()
    assert boxes[..., 2].max() <= 160 and boxes[..., 3].max() <= 96  # as they are padded


@pytest.mark.parametrize("head", DETR_LEVELS)
def test_an_image_with_fewer_cells_than_queries_is_no_error(head: str):
    network = build("test_resnet", 64, head, max_detections=300).train()
    logits, boxes = network(torch.randn(2, 4, 64, 64))
    assert logits.shape[2] == boxes.shape[2] == (300 if head == "deformable_detr" else 84)


@pytest.mark.parametrize("head", DETR_LEVELS)
def test_boxes_in_half_precision_are_finer_than_a_pixel(head: str):
    torch.manual_seed(0)
    network = build("test_resnet", 512, head, max_detections=400).eval()
    for part in network.modules():
        if isinstance(part, detr.BoxPredictor):  # which at first moves nothing
            torch.nn.init.normal_(part.last.weight, std=0.02)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        _, boxes = network(torch.randn(1, 4, 512, 512))
    x = boxes[0, -1, :, 0]
    x = x[(x > 256) & (x < 500)]  # where bfloat16 has every second pixel alone
    assert len(x) > 20 and len(x.unique()) == len(x)
    assert ((x - x.bfloat16().float()).abs() > 0.1).any()


def test_the_backbone_is_ours_alone():
    torch.manual_seed(0)
    for head in DETR_LEVELS:
        network = build("test_resnet", 64, head)
        inner = network.decoder.head.model.backbone
        assert list(inner.parameters()) == [] and list(inner.buffers()) == []
        state = network.state_dict()
        pointers = [tensor.data_ptr() for tensor in state.values() if tensor.numel()]
        assert len(set(pointers)) == len(pointers)  # as safetensors wants


def test_levels_and_depth_are_those_of_the_paper_unless_they_are_given():
    def fields(**given: object) -> tuple[tuple[int, int], int]:
        config = DetectionConfig.model_validate({"name": "detection", **given})
        return config.levels, config.head_depth

    assert fields() == ((3, 7), 2)
    assert fields(head="deformable_detr") == ((3, 6), 6)
    assert fields(head="rt_detr_v2") == ((3, 5), 6)
    assert fields(head="deformable_detr", levels=(2, 6), head_depth=3) == ((2, 6), 3)


@pytest.mark.parametrize("head", DETR_LEVELS)
def test_what_a_head_cannot_do_is_refused_in_one_line(head: str, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ValidationError, match=r"aligned boxes only; set task\.boxes=aligned, or"):
        options(head, boxes="oriented")
    tree = {"name": "r", "data": {"url": "d"}, "model": {"name": "resnet18"}}
    with pytest.raises(ConfigErrors) as refusals:
        validate(tree | {"task": SMALL | {"boxes": "oriented", "head": head}})
    assert str(refusals.value).count("\n") == 0
    if head == "rt_detr_v2":
        with pytest.raises(ValidationError, match=r"end at 5 .*; set task.levels=\[2,5\]"):
            options(head, levels=(2, 6))
    monkeypatch.setattr(detr, "find_spec", lambda name: None if name == "scipy" else True)
    with pytest.raises(ConfigError) as refused:
        build("test_resnet", 64, head)
    said = f'task.head: {head} needs scipy; pip install "rsdl-train[detr]"'
    assert str(refused.value) == said
