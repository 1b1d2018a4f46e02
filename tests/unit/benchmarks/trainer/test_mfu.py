"""A device that is not known has no peak."""

import pytest

from benchmarks.trainer.mfu import find_peak, share_of_peak


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


def test_the_share_is_what_was_done_over_what_could_be():
    assert share_of_peak(1000, 24_000_000_000, 240.0) == pytest.approx(0.1)
    assert share_of_peak(1000, 24_000_000_000, None) is None
