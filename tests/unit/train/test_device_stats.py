"""The meters of a GPU: through pynvml to a C library, and without one."""

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pynvml
import pytest
import torch

from rsdl.records.device_use import DeviceReading
from rsdl.train.device_stats import NvmlMeter, meters_of, open_meters

SOURCE = Path(__file__).with_name("nvml_stand_in.c")
UUID = "8a4f1c02-1111-2222-3333-444455556666"
SCRIPT = """
import json, sys
from dataclasses import asdict
from rsdl.train.device_stats import meters_of
meters = meters_of(sys.argv[1:])
print(json.dumps([[asdict(meter.read()) for meter in meters] for _ in range(2)]))
for meter in meters:
    meter.close()
    meter.close()
"""
Read = Callable[..., list[list[dict[str, float | None]]]]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """Return a folder with a libnvidia-ml.so.1; ``None`` where nothing can compile it."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    folder = tmp_path_factory.mktemp("nvml")
    target = folder / "libnvidia-ml.so.1"
    flags = ["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([compiler, *flags, "-o", str(target), str(SOURCE)], check=True)
    return folder


@pytest.fixture
def read(library: Path | None, require: Callable[[str, bool], None]) -> Read:
    """Return what reads the meters of some devices twice, in a process that has the library."""
    require("cc", library is not None)

    def run(*uuids: str, name: str = f"GPU-{UUID}", lacks: str = "") -> list:
        environment = {
            **os.environ,
            "LD_LIBRARY_PATH": str(library),
            "STAND_IN_UUID": name,
            "STAND_IN_LACKS": lacks,
        }
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, *uuids],
            capture_output=True,
            text=True,
            env=environment,
            check=True,
        )
        found: list = json.loads(done.stdout)
        return found

    return run


@pytest.mark.slow
def test_meters_are_read_in_their_units(read: Read):
    (first,), (second,) = read(UUID)
    expected = DeviceReading(utilization=0.37, memory_bytes=5 << 30, power_w=211.5, energy_j=7000.0)
    assert first == asdict(expected)
    assert second["energy_j"] == 7001.5


@pytest.mark.slow
def test_a_slice_of_a_card_is_found_and_what_it_does_not_tell_is_none(read: Read):
    (first,), _ = read(UUID, name=f"MIG-{UUID}", lacks="utilization power energy")
    assert first == asdict(DeviceReading(memory_bytes=5 << 30))


@pytest.mark.slow
def test_a_device_that_nvml_does_not_know_leaves_no_gauge(read: Read):
    assert read(UUID, "00000000-0000-0000-0000-000000000000") == [[], []]


def has_library() -> bool:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return False
    pynvml.nvmlShutdown()
    return True


@pytest.mark.skipif(has_library(), reason="this machine has NVIDIA's library")
def test_without_the_library_there_is_no_gauge_and_a_word_why(caplog: pytest.LogCaptureFixture):
    with pytest.raises(pynvml.NVMLError_LibraryNotFound):
        NvmlMeter(UUID)
    with caplog.at_level(logging.INFO, "rsdl.train.device_stats"):
        assert meters_of([UUID]) == []
    assert "GPU use is not sampled" in caplog.text


def test_a_processor_has_no_gauges():
    assert open_meters(torch.device("cpu"), 2) == []


@pytest.mark.gpu
def test_a_real_card_tells_something():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    (meter,) = open_meters(torch.device("cuda", 0), 1)
    reading = meter.read()
    assert reading.memory_bytes is not None and reading.memory_bytes > 0
    meter.close()
