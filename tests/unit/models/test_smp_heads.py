"""Decoders of segmentation_models_pytorch on backbones of ours: what fits trains whole."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn

from rsdl.config.model import ModelConfig
from rsdl.config.optim import OptimConfig
from rsdl.config.task import SegmentationConfig
from rsdl.core.errors import ConfigError
from rsdl.models.heads import smp
from rsdl.models.heads.smp import DECODERS
from rsdl.models.segmenter import Segmenter, build_segmenter
from rsdl.train.optim import build_optimizer

Require = Callable[[str, bool], None]

# Backbones with a map at stride 2, without one, of one scale alone; they take a second each.
DILATABLE, PLAIN = ("test_resnet", "test_convnext"), "test_vit"


@pytest.fixture(autouse=True)
def _installed(require: Require) -> None:
    require("smp", find_spec("segmentation_models_pytorch") is not None)


def build(name: str, head: str, size: tuple[int, int] = (64, 96), **fields: object) -> Segmenter:
    options = {"name": "segmentation", "head": head, **fields}
    return build_segmenter(
        ModelConfig(name=name), SegmentationConfig.model_validate(options), num_classes=5,
        in_chans=4, image_size=size,
    )  # fmt: skip


def is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm2d)


@pytest.mark.parametrize("head", DECODERS)
@pytest.mark.parametrize("name", [*DILATABLE, PLAIN])
def test_a_decoder_trains_every_parameter_or_is_refused_in_one_line(name: str, head: str):
    stride = DECODERS[head].output_stride
    if name == PLAIN and stride is not None:
        with pytest.raises(ConfigError) as refused:
            build(name, head)
        said = str(refused.value)
        assert said.startswith(f"task.head: {head} needs maps at strides 4, 8, {min(stride, 16)}")
        assert (
            f"and {PLAIN} has maps at strides 16" in said
            and "use one of fpn, upernet, smp/unet" in said
        )
        assert "smp/pan" not in said.partition("use one of")[2]
        return
    # 40 x 70 is no multiple of anything, and smaller than what PAN takes.
    network = build(name, head, (40, 70), head_width=32, auxiliary_weight=0.4).train()
    logits, second = network(torch.randn(2, 4, 40, 70))
    assert logits.shape == second.shape == (2, 5, 40, 70)
    (logits.square().mean() + second.square().mean()).backward()
    weights = dict(network.named_parameters())
    assert [name for name, weight in weights.items() if weight.grad is None] == []
    assert all(weight.numel() for weight in weights.values())


@pytest.mark.parametrize("head", DECODERS)
def test_the_width_is_that_of_the_config(head: str):
    def size(width: int | None) -> int:
        network = build("test_resnet", head, head_width=width).decoder
        return sum(weight.numel() for weight in network.parameters())

    assert size(32) < size(64)
    assert size(DECODERS[head].width) == size(None)


def test_a_decoder_climbs_to_twice_the_size_of_the_finest_map():
    images = torch.randn(1, 4, 64, 96)
    for name, side in (("test_resnet", 64), ("test_convnext", 32)):
        network = build(name, "smp/unet").eval()
        with torch.inference_mode():
            (logits,) = network.decoder(network.backbone(images))
        assert logits.shape[2] == side


def test_norms_layers_and_bands_of_the_backbone_are_treated_as_with_our_own_heads():
    network = build("test_resnet", "smp/unet", freeze_norm=True).train()
    assert not any(norm.training for norm in network.backbone.modules() if is_norm(norm))
    assert all(norm.training for norm in network.decoder.modules() if is_norm(norm))
    optimizer = build_optimizer(OptimConfig(lr=1.0, layer_decay=0.5), network)
    rates = {id(w): group["lr_scale"] for group in optimizer.param_groups for w in group["params"]}
    assert {rates[id(weight)] for weight in network.decoder.parameters()} == {1.0}
    assert max(rates[id(weight)] for weight in network.backbone.parameters()) <= 0.5
    assert next(network.backbone.parameters()).shape[1] == 4


def test_without_the_package_a_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(smp, "find_spec", lambda name: None)
    with pytest.raises(ConfigError) as refused:
        build("test_resnet", "smp/unet")
    assert str(refused.value) == (
        'task.head: smp/unet needs segmentation_models_pytorch; pip install "rsdl-train[smp]"'
    )
    build("test_resnet", "fpn")


@pytest.mark.parametrize("head", ["smp/pan", "smp/deeplabv3"])
def test_a_dilated_backbone_keeps_its_weights(head: str, tmp_path: Path):
    torch.manual_seed(0)
    plain = build("test_resnet", "fpn")
    torch.save(plain.backbone.get_submodule("model").state_dict(), tmp_path / "weights.pth")
    config = SegmentationConfig.model_validate({"name": "segmentation", "head": head})
    dilated = build_segmenter(
        ModelConfig(name="test_resnet", weights=str(tmp_path / "weights.pth")), config,
        num_classes=5, in_chans=4, image_size=64,
    )  # fmt: skip
    ours, theirs = plain.backbone.state_dict(), dilated.backbone.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    images = torch.randn(1, 4, 64, 64)
    with torch.inference_mode():
        sides = [each.shape[2] for each in dilated.eval().backbone(images)]
    assert min(sides) == 64 // DECODERS[head].output_stride
