"""What runs took from the plug, by measured or by rated power."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsdl.evaluate.energy import Use, is_gpu, rated_power, uses_of


@pytest.mark.parametrize(
    ("name", "watts"),
    [
        ("NVIDIA GeForce RTX 3090", 350),
        ("NVIDIA GeForce RTX 2080 Ti", 250),
        ("NVIDIA A10", 150),
        ("NVIDIA A100-SXM4-80GB", 400),
        ("NVIDIA A100 80GB PCIe", 300),
        ("NVIDIA A100-PCIE-40GB", 250),
        ("NVIDIA RTX A6000", 300),
        ("Quadro RTX 8000", 295),
        ("Tesla V100-SXM2-32GB", 300),
        ("NVIDIA L40", 300),
        ("NVIDIA L40S", 350),
        ("NVIDIA L4", 72),
        ("NVIDIA H100 80GB HBM3", 700),
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", None),
        ("NVIDIA A1000", None),
        ("NVIDIA GeForce RTX 3090D", None),
        ("CPU (Intel Xeon, 2 threads)", None),
        ("", None),
    ],
)
def test_cards_are_known_by_the_names_that_cuda_gives_them(name: str, watts: float | None):
    assert rated_power(name) == watts


def test_measured_power_goes_before_the_rating_and_covers_what_was_not_metered():
    metered = {"device_s": 100.0, "energy_j": 16_000.0, "metered_s": 80.0}
    run = {"device_s": 100.0, "device_name": "NVIDIA A40", "devices": {"NVIDIA A40": metered}}
    (use,) = uses_of(run)
    assert (use.energy_j, use.basis) == (20_000.0, "measured")


def test_without_a_meter_the_rating_is_taken():
    (use,) = uses_of({"device_s": 100.0, "device_name": "NVIDIA A40"})
    assert (use.energy_j, use.basis) == (30_000.0, "rated")


def test_a_processor_has_no_energy():
    (use,) = uses_of({"device_s": 100.0, "device_name": "CPU (2 threads)"})
    assert (use.energy_j, use.basis) == (None, None)
    assert not is_gpu(use.device) and is_gpu("NVIDIA A40")


@given(st.dictionaries(st.sampled_from("abcd"), st.floats(0, 1e6), max_size=4), st.floats(0, 1e6))
def test_the_seconds_of_all_devices_are_those_of_the_run(devices: dict[str, float], rest: float):
    total = sum(devices.values()) + rest
    run = {
        "device_s": total,
        "device_name": "a",
        "devices": {name: {"device_s": seconds} for name, seconds in devices.items()},
    }
    assert sum(use.device_s for use in uses_of(run)) == pytest.approx(total, rel=2e-6)


@pytest.mark.parametrize(
    "run", [{}, {"device_s": None}, {"device_s": 0.0, "devices": {"a": {}}}, {"devices": [1]}]
)
def test_a_run_that_has_not_begun_has_used_nothing(run: dict[str, object]):
    assert uses_of(run) == []


def test_what_a_use_does_not_know_is_none():
    assert uses_of({"device_s": 5, "device_name": "x"}) == [Use("x", 5.0)]
