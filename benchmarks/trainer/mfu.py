"""MFU: the peak of a GPU, and the operations of a training step.

Operations are counted on the network itself, forward and backward, not typed in. Peaks are those of
NVIDIA's data sheets for dense bf16 with fp32 sums, without sparsity; a GPU that is not in the table
gets no MFU rather than a guessed one.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.peers.step_task import create_network
from rsdl.models.catalog import find_timm_name

# Substring of torch.cuda.get_device_name() -> TFLOP/s; the first match counts.
PEAKS = {
    "H200 NVL": 835.5,  # H200 data sheet: 1,671 with sparsity
    "H200": 989.5,  # H200 data sheet, SXM: 1,979 with sparsity
    "H100 NVL": 835.5,  # H100 data sheet: 1,671 with sparsity
    "H100 PCIe": 756.5,  # H100 data sheet: 1,513 with sparsity
    "H100": 989.5,  # H100 data sheet, SXM ("NVIDIA H100 80GB HBM3"): 1,979 with sparsity
    "A100": 312.0,  # A100 data sheet, SXM and PCIe
    "L40S": 362.05,  # L40S data sheet
    "L40": 181.05,  # L40 data sheet
    "L4": 121.0,  # L4 data sheet: 242 with sparsity
    "A40": 149.7,  # A40 data sheet
    "A10": 125.0,  # A10 data sheet
    "RTX 4090": 165.2,  # Ada whitepaper, fp32 sums
    "RTX 3090": 71.0,  # Ampere GA102 whitepaper, fp32 sums
}

OTHERS = {"Ti", "SUPER", "Laptop", "MIG"}  # words that mark another device, or a part of one


def find_peak(device_name: str) -> float | None:
    """Return the dense bf16 peak of a GPU in TFLOP/s; ``None`` if unknown.

    Args:
        device_name: From ``torch.cuda.get_device_name``.
    """
    words = device_name.replace("-", " ").split()
    if OTHERS & set(words):
        return None
    for name, peak in PEAKS.items():
        if set(name.split()) <= set(words):
            return peak
    return None


@cache
def count_flops(model: str, image_size: int, num_classes: int) -> int:
    """Return the operations of one image's forward and backward pass, a multiply-add as two.

    Matrix products and convolutions are counted, as papers do; attention is counted as its two
    defining products, whatever a kernel recomputes in the backward pass. Runs on meta tensors, so
    nothing is computed.
    """
    with torch.device("meta"):
        network = create_network(find_timm_name(model), image_size, num_classes)
        images = torch.empty(2, 3, image_size, image_size)  # batch norm rejects a single value
    formulas: dict[Any, Any] = {torch.ops.aten.convolution_backward: count_backward}
    counter = FlopCounterMode(display=False, custom_mapping=formulas)
    with sdpa_kernel(SDPBackend.MATH), counter:
        network.train()(images).sum().backward()
    return int(counter.get_total_flops()) // len(images)


def count_backward(
    gradient: Sequence[int], _: object, weight: Sequence[int], *rest: object, **__: object
) -> int:
    """Return the operations of a convolution's backward pass, from shapes.

    PyTorch's own formula counts a grouped convolution as a full one.
    """
    mask = rest[7]  # which gradients are needed: images, weight, bias
    assert isinstance(mask, Sequence) and not rest[4], "no transposed convolutions here"
    return 2 * math.prod(gradient) * math.prod(weight[1:]) * (bool(mask[0]) + bool(mask[1]))


def share_of_peak(images_per_s: float, flops: int, peak: float | None) -> float | None:
    """Return the share of the peak that training reaches, 0 to 1; ``None`` without a peak."""
    return None if peak is None else images_per_s * flops / (peak * 1e12)
