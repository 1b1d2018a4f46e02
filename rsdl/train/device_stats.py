"""What GPUs say of themselves, by NVIDIA's management library (NVML), and a thread that asks them.

A meter never stops a run: what a card, a slice of one or its driver does not tell is ``None``, and
where there is no library there is no meter. What it reads is the card's: of a card that is shared,
everybody's use together.
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
    """The meters of one device."""

    def read(self) -> DeviceReading:
        """Return what they say now; fields are ``None`` where they say nothing."""
        ...

    def close(self) -> None:
        """Let go of them."""
        ...


class NvmlMeter:
    """The meters of one NVIDIA card, or of one slice (MIG) of it.

    Args:
        uuid: Of the device, as CUDA tells it: ``xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx``.

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
        """Return what the meters say now."""
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
        """Let go of the library."""
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def open_meters(device: torch.device, num_devices: int) -> list[DeviceMeter]:
    """Return the meters of the devices that this node's processes train on; none on a processor.

    Args:
        device: What this process trains on.
        num_devices: Processes of this node, each on a device of its own.
    """
    if device.type != "cuda":
        return []
    numbers = range(num_devices) if num_devices > 1 else [device.index or 0]
    return meters_of([str(torch.cuda.get_device_properties(k).uuid) for k in numbers])


def meters_of(uuids: Sequence[str]) -> list[DeviceMeter]:
    """Return a meter for each device; none at all, and a word why, where NVML has no access."""
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
    """Reads meters now and then, and keeps sums until somebody takes them.

    Args:
        meters: Of the devices; without any nothing is started.
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
        """Begin to read; it is no error to do so twice."""
        if self._meters and self._thread is None:
            self._thread = threading.Thread(target=self._work, name="meters", daemon=True)
            self._thread.start()

    def take(self) -> DeviceReadingSums:
        """Return the sums since they were last taken."""
        with self._lock:
            sums, self._sums = self._sums, DeviceReadingSums()
        return sums

    def stop(self) -> None:
        """End the thread and close the meters; it is no error to do so twice."""
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
    """Return what NVML answers; ``None`` where this device does not tell, or just now."""
    try:
        return function(handle)
    except pynvml.NVMLError:
        return None
