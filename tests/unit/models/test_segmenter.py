"""A head on any of the nine: any size, no parameter without a gradient."""

from typing import get_args

import pytest
import torch

from rsdl.config.model import ModelConfig
from rsdl.config.optim import OptimConfig
from rsdl.config.task import HeadName, SegmentationConfig
from rsdl.core.errors import ConfigError
from rsdl.core.image_size import ImageSize, height_width
from rsdl.models.catalog import ARCHITECTURES
from rsdl.models.dense_network import pad_size
from rsdl.models.heads.catalog import HEADS, OWN
from rsdl.models.pyramid import Pyramid
from rsdl.models.segmenter import Segmenter, build_segmenter
from rsdl.train.optim import build_optimizer


def options(head: str = "fpn", **fields: object) -> SegmentationConfig:
    return SegmentationConfig.model_validate({"name": "segmentation", "head": head, **fields})


def build(name: str, head: str, image_size: ImageSize, **fields: object) -> Segmenter:
    return build_segmenter(
        ModelConfig(name=name), options(head, **fields), num_classes=5, in_chans=4,
        image_size=image_size,
    )  # fmt: skip


def test_the_heads_of_a_config_are_those_that_can_be_built():
    assert get_args(HeadName) == HEADS


@pytest.mark.parametrize("head", OWN)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_of_the_nine_labels_every_pixel_and_trains_every_parameter(name: str, head: str):
    with torch.device("meta"):  # shapes and gradients, without values
        network = build(name, head, (96, 160), auxiliary_weight=0.4)
        logits, second = network(torch.empty(2, 4, 96, 160))
    assert logits.shape == second.shape == (2, 5, 96, 160)
    (logits.sum() + second.sum()).backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext"])
@pytest.mark.parametrize("size", [(32, 32), (40, 70), (33, 64)])
def test_sizes_that_are_no_multiple_of_a_stride_are_padded(name: str, size: tuple[int, int]):
    network = build(name, "fpn", size).eval()
    images = torch.randn(1, 4, *size)
    with torch.inference_mode():
        logits = network(images)
        height, width = pad_size(name, size)[0]
        padded = torch.zeros(1, 4, height, width)
        padded[:, :, : size[0], : size[1]] = images
        whole = network(padded)
    assert logits.shape[2:] == size
    assert torch.allclose(logits, whole[:, :, : size[0], : size[1]], atol=1e-5)


@pytest.mark.parametrize(
    ("size", "padded", "window"),
    [
        (224, 224, 7),
        (256, 256, 8),
        (512, 512, 8),
        (300, (448, 448), 7),
        ((500, 250), (512, 256), 8),
        (200, 224, 7),
        # Smaller than a window: one of the whole image.
        (64, 64, 2),
        ((33, 160), (160, 160), 5),
    ],
)
def test_maxvit_gets_the_window_that_pads_least(size: ImageSize, padded: ImageSize, window: int):
    found, options = pad_size("maxvit_small_tf_224", size)
    assert (found, options["transformer_window_size"]) == (height_width(padded), window)


def test_frozen_norms_keep_their_statistics_in_training():
    images = torch.randn(2, 4, 64, 64) * 5 + 3
    for frozen in (False, True):
        network = build("test_resnet", "fpn", 64, freeze_norm=frozen)  # in training as it is made
        before = {k: v.clone() for k, v in network.state_dict().items() if "running_mean" in k}
        network(images)
        after = network.state_dict()
        assert before and all(torch.equal(after[k], v) == frozen for k, v in before.items())


def test_a_backbone_without_the_strides_of_a_pyramid_is_refused():
    with pytest.raises(ConfigError, match=r"model\.name: net has maps at strides 2, 8, 16, and a"):
        Pyramid((2, 8, 16), (4, 8, 16), "net")


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_convnext"])
def test_layer_decay_knows_the_layers_of_the_backbone(name: str):
    network = build(name, "fpn", 64)
    optimizer = build_optimizer(OptimConfig(lr=1.0, layer_decay=0.5, weight_decay=0.1), network)
    scales: dict[str, float] = {}
    names = {id(weight): name for name, weight in network.named_parameters()}
    for group in optimizer.param_groups:
        scales |= {names[id(weight)]: group["lr_scale"] for weight in group["params"]}
    head = {scale for name, scale in scales.items() if name.startswith("decoder.")}
    body = [scale for name, scale in scales.items() if name.startswith("backbone.")]
    assert head == {1.0} and max(body) <= 0.5
    assert min(body) == body[0] < 0.3  # the stem is the lowest layer
    decayed = {group["weight_decay"] for group in optimizer.param_groups}
    assert decayed == {0.0, 0.1}


@pytest.mark.parametrize("head", OWN)
@pytest.mark.parametrize("width", [32, 64, None])
def test_a_single_image_of_one_cell_trains_and_its_context_counts(head: str, width: int | None):
    torch.manual_seed(0)
    network = build("test_vit", head, 32, head_width=width).train()
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout2d):
            module.eval()
    assert network(torch.randn(1, 4, 32, 32)).shape == (1, 5, 32, 32)
    norms = [
        module for module in network.decoder.modules() if isinstance(module, torch.nn.GroupNorm)
    ]
    assert all(norm.num_channels // norm.num_groups >= 4 for norm in norms)


def test_the_second_head_is_there_in_training_only_and_its_weights_are_left_behind():
    trained = build("test_resnet", "fpn", 64, auxiliary_weight=0.4)
    plain = build("test_resnet", "fpn", 64)
    images = torch.randn(2, 4, 64, 64)
    logits, second = trained.train()(images)
    assert not torch.equal(logits, second)
    found = plain.load_state_dict(trained.state_dict())
    assert not found.missing_keys and not found.unexpected_keys
    with torch.inference_mode():
        assert torch.equal(trained.eval()(images), plain.eval()(images))
    assert sum(w.numel() for w in plain.parameters()) < sum(w.numel() for w in trained.parameters())
    # What is missing the other way round is no small matter.
    with pytest.raises(RuntimeError, match=r"decoder\.auxiliary"):
        trained.load_state_dict(plain.state_dict())
    assert any(name.startswith("decoder.auxiliary.") for name in trained.state_dict())


@pytest.mark.parametrize("head", ["fpn", "smp/unet"])
def test_the_second_head_sees_the_map_at_stride_16(head: str):
    if head.startswith("smp"):
        pytest.importorskip("segmentation_models_pytorch")
    network = build("test_resnet", head, 64, auxiliary_weight=0.4).train()
    seen = []
    network.decoder.auxiliary.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    network(torch.randn(2, 4, 64, 64))
    assert seen[0].shape[2:] == (4, 4)
