"""The meters of a GPU, as NVIDIA's management library (NVML) tells them.

A gauge never stops a run: what a card, a slice of one or its driver does not tell is ``None``, and
where there is no library there is no gauge. What it reads is the card's: of a card that is shared,
everybody's use together.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

import pynvml
import torch

from rsdl.train.usage import Reading

logger = logging.getLogger(__name__)


class Gauge(Protocol):
    """The meters of one device."""

    def read(self) -> Reading:
        """Return what they say now; fields are ``None`` where they say nothing."""
        ...

    def close(self) -> None:
        """Let go of them."""
        ...


class NvmlGauge:
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

    def read(self) -> Reading:
        """Return what the meters say now."""
        rates = _ask(pynvml.nvmlDeviceGetUtilizationRates, self._handle)
        memory = _ask(pynvml.nvmlDeviceGetMemoryInfo, self._handle)
        power_mw = _ask(pynvml.nvmlDeviceGetPowerUsage, self._handle)
        energy_mj = _ask(pynvml.nvmlDeviceGetTotalEnergyConsumption, self._handle)
        return Reading(
            utilization=None if rates is None else rates.gpu / 100,
            memory_bytes=None if memory is None else int(memory.used),
            power_w=None if power_mw is None else power_mw / 1000,
            energy_j=None if energy_mj is None else energy_mj / 1000,
        )

    def close(self) -> None:
        """Let go of the library."""
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def open_gauges(device: torch.device, num_devices: int) -> list[Gauge]:
    """Return the gauges of the devices that this node's processes train on; none on a processor.

    Args:
        device: What this process trains on.
        num_devices: Processes of this node, each on a device of its own.
    """
    if device.type != "cuda":
        return []
    numbers = range(num_devices) if num_devices > 1 else [device.index or 0]
    return gauges_of([str(torch.cuda.get_device_properties(k).uuid) for k in numbers])


def gauges_of(uuids: Sequence[str]) -> list[Gauge]:
    """Return a gauge for each device; none at all, and a word why, where NVML has no access."""
    gauges: list[Gauge] = []
    try:
        for uuid in uuids:
            gauges.append(NvmlGauge(uuid))
    except pynvml.NVMLError as error:
        logger.info("GPU use is not sampled: %s", error)
        for gauge in gauges:
            gauge.close()
        return []
    return gauges


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
