"""GPU statistics from NVIDIA's management library (NVML), and a thread that polls them.

A meter never fails a run: values that a GPU, a MIG slice or the driver does not report are
``None``, and without the library there is no meter. Values are those of the whole device: on a
shared GPU they include the use of other processes.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

import pynvml
import torch

from rsdl.records.device_use import DeviceReading, DeviceReadingSums

logger = logging.getLogger(__name__)


class DeviceMeter(Protocol):
    """A source of statistics of one device."""

    def read(self) -> DeviceReading:
        """Return the current values; a value that the device does not report is ``None``."""
        ...

    def close(self) -> None:
        """Release the meter."""
        ...


class NvmlMeter:
    """NVML statistics of one NVIDIA GPU or one MIG slice.

    Args:
        uuid: UUID of the device as CUDA gives it: ``xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx``.

    Raises:
        pynvml.NVMLError: If there is no library, no driver or no such device.
    """

    def __init__(self, uuid: str) -> None:
        pynvml.nvmlInit()
        try:
            self._handle = _find(uuid)
        except pynvml.NVMLError:
            pynvml.nvmlShutdown()
            raise

    def read(self) -> DeviceReading:
        """Return the current values."""
        rates = _ask(pynvml.nvmlDeviceGetUtilizationRates, self._handle)
        memory = _ask(pynvml.nvmlDeviceGetMemoryInfo, self._handle)
        power_mw = _ask(pynvml.nvmlDeviceGetPowerUsage, self._handle)
        energy_mj = _ask(pynvml.nvmlDeviceGetTotalEnergyConsumption, self._handle)
        return DeviceReading(
            utilization=None if rates is None else rates.gpu / 100,
            memory_bytes=None if memory is None else int(memory.used),
            power_w=None if power_mw is None else power_mw / 1000,
            energy_j=None if energy_mj is None else energy_mj / 1000,
        )

    def close(self) -> None:
        """Shut NVML down."""
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def open_meters(device: torch.device, num_devices: int) -> list[DeviceMeter]:
    """Return meters of the devices that this node's processes train on; none on the CPU.

    Args:
        device: Device of this process.
        num_devices: Processes of this node, each on a device of its own.
    """
    if device.type != "cuda":
        return []
    numbers = range(num_devices) if num_devices > 1 else [device.index or 0]
    return meters_of([str(torch.cuda.get_device_properties(k).uuid) for k in numbers])


def meters_of(uuids: Sequence[str]) -> list[DeviceMeter]:
    """Return a meter for each device; if NVML has no access, log the reason and return none."""
    meters: list[DeviceMeter] = []
    try:
        for uuid in uuids:
            meters.append(NvmlMeter(uuid))
    except pynvml.NVMLError as error:
        logger.info("GPU use is not sampled: %s", error)
        for meter in meters:
            meter.close()
        return []
    return meters


class MeterPoller:
    """Polls meters in a thread and adds up their readings until :meth:`take`.

    Args:
        meters: Meters of the devices; without any, no thread is started.
        every_s: Seconds between two readings.
    """

    def __init__(self, meters: Sequence[DeviceMeter], every_s: float = 1.0) -> None:
        self._meters = meters
        self._every_s = every_s
        self._sums = DeviceReadingSums()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start polling; idempotent."""
        if self._meters and self._thread is None:
            self._thread = threading.Thread(target=self._work, name="meters", daemon=True)
            self._thread.start()

    def take(self) -> DeviceReadingSums:
        """Return the sums since the last call and reset them."""
        with self._lock:
            sums, self._sums = self._sums, DeviceReadingSums()
        return sums

    def stop(self) -> None:
        """Stop the thread and close the meters; idempotent."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        for meter in self._meters:
            meter.close()
        self._meters = ()

    def _work(self) -> None:
        before: list[DeviceReading | None] = [None] * len(self._meters)
        clock = [time.monotonic()] * len(self._meters)
        while not self._ended.is_set():
            for k, meter in enumerate(self._meters):
                reading, now = meter.read(), time.monotonic()
                with self._lock:
                    self._sums.add(before[k], reading, now - clock[k])
                before[k], clock[k] = reading, now
            self._ended.wait(self._every_s)


def _find(uuid: str) -> Any:  # noqa: ANN401 - NVML's handle
    try:
        return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    except pynvml.NVMLError_NotFound:
        return pynvml.nvmlDeviceGetHandleByUUID(f"MIG-{uuid}")


def _ask(function: Callable[[Any], Any], handle: Any) -> Any:  # noqa: ANN401 - NVML's structures
    """Return the answer of NVML, or ``None`` if the query is unsupported or fails."""
    try:
        return function(handle)
    except pynvml.NVMLError:
        return None
