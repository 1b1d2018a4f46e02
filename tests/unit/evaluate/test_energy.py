"""What runs took from the plug, by measured or by rated power."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rsdl.evaluate.energy import Use, is_gpu, rated_power, uses_of
from rsdl.records.device_use import DeviceUse
from rsdl.records.run_record import RunRecord


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


def used(begun: RunRecord, device_s: float, name: str, **devices: dict[str, float]) -> list[Use]:
    fields = {"device_s": device_s, "device_name": name, "devices": devices}
    return uses_of(RunRecord(**begun.model_dump() | fields))


def test_measured_power_goes_before_the_rating_and_covers_what_was_not_metered(begun: RunRecord):
    metered = {"device_s": 100.0, "energy_j": 16_000.0, "metered_s": 80.0}
    (use,) = used(begun, 100.0, "NVIDIA A40", **{"NVIDIA A40": metered})
    assert (use.energy_j, use.basis) == (20_000.0, "measured")


def test_without_a_meter_the_rating_is_taken(begun: RunRecord):
    (use,) = used(begun, 100.0, "NVIDIA A40")
    assert (use.energy_j, use.basis) == (30_000.0, "rated")


def test_a_processor_has_no_energy(begun: RunRecord):
    (use,) = used(begun, 100.0, "CPU (2 threads)")
    assert use == Use("CPU (2 threads)", DeviceUse(device_s=100.0))
    assert not is_gpu(use.device) and is_gpu("NVIDIA A40")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from("abcd"), st.floats(0, 1e6), max_size=4), st.floats(0, 1e6))
def test_the_seconds_of_all_devices_are_those_of_the_run(
    begun: RunRecord, devices: dict[str, float], rest: float
):
    total = sum(devices.values()) + rest
    uses = used(begun, total, "a", **{name: {"device_s": s} for name, s in devices.items()})
    assert sum(use.meters.device_s for use in uses) == pytest.approx(total, rel=2e-6)


def test_a_run_that_has_not_begun_has_used_nothing(begun: RunRecord):
    assert uses_of(begun) == []
    assert used(begun, 0.0, "a", a={}) == []
