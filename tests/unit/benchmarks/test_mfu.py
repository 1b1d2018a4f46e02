"""Operations are counted, not typed in; a device that is not known has no peak."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.trainer.mfu import count_backward, count_flops, find_peak, share_of_peak
from rsdl.commands.models import describe_model


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H200", 989.5), ("NVIDIA H100 80GB HBM3", 989.5), ("NVIDIA H100 PCIe", 756.5),
        ("NVIDIA A100-SXM4-80GB", 312.0), ("NVIDIA A40", 149.7), ("NVIDIA L4", 121.0),
        ("NVIDIA GeForce RTX 3090", 71.0), ("NVIDIA L40S", 362.05),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("Tesla T4", None), ("NVIDIA GeForce RTX 3090 Ti", None), ("", None),
    ],
)  # fmt: skip
def test_peaks_go_by_the_name_that_cuda_gives(name: str, peak: float | None):
    assert find_peak(name) == peak


@pytest.mark.parametrize("name", ["resnet50", "resnext101", "efficientnet_b5", "vit_base"])
def test_training_takes_about_thrice_the_operations_of_inference(name: str):
    forward = describe_model(name, num_classes=10, image_size=224).gflops * 1e9
    assert count_flops(name, 224, 10) == pytest.approx(3 * forward, rel=0.04)


@pytest.mark.parametrize("groups", [1, 4])
def test_a_grouped_convolution_counts_what_it_multiplies(groups: int):
    """Backward makes the gradients of images and of weights: each takes as much as forward."""
    layer, images = nn.Conv2d(8, 16, 3, groups=groups), torch.randn(2, 8, 10, 10)
    formulas = {torch.ops.aten.convolution_backward: count_backward}
    with FlopCounterMode(display=False, custom_mapping=formulas) as counter:
        layer(images.requires_grad_()).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * (2 * 16 * 8 * 8) * (8 // groups * 3 * 3)


def test_the_share_is_what_was_done_over_what_could_be():
    assert share_of_peak(1000, 24_000_000_000, 240.0) == pytest.approx(0.1)
    assert share_of_peak(1000, 24_000_000_000, None) is None
