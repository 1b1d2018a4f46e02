"""A head on any of the nine: any size, no parameter without a gradient."""

import pytest
import torch

from rsdl.config.model import ModelConfig
from rsdl.config.optim import OptimConfig
from rsdl.core.errors import ConfigError
from rsdl.core.image_size import ImageSize, height_width
from rsdl.models.catalog import ARCHITECTURES
from rsdl.models.pyramid import Pyramid
from rsdl.models.segmenter import HEADS, build_segmenter, pad_size
from rsdl.train.optim import build_optimizer


def build(
    name: str, head: str, image_size: ImageSize, *, freeze_norm: bool = False
) -> torch.nn.Module:
    return build_segmenter(
        ModelConfig(name=name), head=head, num_classes=5, in_chans=4, image_size=image_size,
        freeze_norm=freeze_norm,
    )  # fmt: skip


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_of_the_nine_labels_every_pixel_and_trains_every_parameter(name: str, head: str):
    with torch.device("meta"):  # shapes and gradients, without values
        network = build(name, head, (96, 160))
        logits = network(torch.empty(2, 4, 96, 160))
    assert logits.shape == (2, 5, 96, 160)
    logits.sum().backward()
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
    ],
)
def test_maxvit_gets_the_window_that_pads_least(size: ImageSize, padded: ImageSize, window: int):
    found, options = pad_size("maxvit_small_tf_224", size)
    assert (found, options["transformer_window_size"]) == (height_width(padded), window)


def test_frozen_norms_keep_their_statistics_in_training():
    images = torch.randn(2, 4, 64, 64) * 5 + 3
    for frozen in (False, True):
        network = build("test_resnet", "fpn", 64, freeze_norm=frozen).train()
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


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("width", [32, 64, None])
def test_a_single_image_of_one_cell_trains_and_its_context_counts(head: str, width: int | None):
    torch.manual_seed(0)
    network = build_segmenter(
        ModelConfig(name="test_vit"), head=head, num_classes=3, in_chans=3, image_size=32,
        width=width,
    ).train()  # fmt: skip
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout2d):
            module.eval()
    assert network(torch.randn(1, 3, 32, 32)).shape == (1, 3, 32, 32)
    norms = [
        module for module in network.decoder.modules() if isinstance(module, torch.nn.GroupNorm)
    ]
    assert all(norm.num_channels // norm.num_groups >= 4 for norm in norms)
