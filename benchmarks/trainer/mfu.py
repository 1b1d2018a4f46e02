"""MFU: the peak of a GPU, and the operations of a training step.

Operations are counted on the network itself. Peaks are those of NVIDIA's data sheets for dense bf16
with fp32 sums, without sparsity; a GPU that is not in the table gets no MFU rather than a guessed
one.
"""

from functools import cache

from rsdl.commands.models import describe_model

TRAIN_FLOPS = 3  # times a forward pass: forward, and backward at twice that
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
def count_flops(model: str, image_size: int, num_classes: int) -> float:
    """Return the operations of one image's forward and backward pass, a multiply-add as two."""
    row = describe_model(model, num_classes=num_classes, image_size=image_size)
    return TRAIN_FLOPS * row.gflops * 1e9


def share_of_peak(images_per_s: float, flops: float, peak: float | None) -> float | None:
    """Return the share of the peak that training reaches, 0 to 1; ``None`` without a peak."""
    return None if peak is None else images_per_s * flops / (peak * 1e12)
