"""Estimate of the energy that runs used: from measured power if available, else from rated power.

The estimate is for GPUs only, without CPUs, memory, cooling and losses of the power supply. If the
power was sampled, the energy is the mean power times the device time. Otherwise it is the rated
board power times the device time, an upper bound: a busy GPU approaches the rated power, an idle
one does not. Devices that are not in the table, such as CPUs or MIG slices, have no estimate.
"""

import re
from dataclasses import dataclass
from typing import Literal

from rsdl.evaluate.formatting import text
from rsdl.records.device_use import DeviceUse
from rsdl.records.run_record import RunRecord

Basis = Literal["measured", "rated"]

# Rated board power in W from NVIDIA's data sheets, by the start of the device's name.
RATED_W = {
    "A10": 150, "A100 80GB PCIe": 300, "A100-PCIE": 250, "A100-SXM4": 400, "A30": 165, "A40": 300,
    "GTX 1070": 150, "GTX 1080 Ti": 250, "GTX 1080": 180,
    "H100 NVL": 400, "H100 PCIe": 350, "H100 80GB HBM3": 700, "H200 NVL": 600, "H200": 700,
    "L4": 72, "L40S": 350, "L40": 300,
    "P100-PCIE": 250, "P100-SXM2": 300,
    "RTX 2080 Ti": 250, "RTX 3090 Ti": 450, "RTX 3090": 350, "RTX 4090": 450, "RTX 5090": 575,
    "RTX 6000 Ada Generation": 300, "RTX 6000": 295, "RTX 8000": 295,
    "RTX A4000": 140, "RTX A5000": 230, "RTX A6000": 300,
    "T4": 70, "TITAN RTX": 280, "TITAN V": 250, "TITAN Xp": 250,
    "V100-PCIE": 250, "V100-SXM2": 300, "V100-SXM3": 350,
}  # fmt: skip
_MAKERS = re.compile(r"^(NVIDIA |Tesla |Quadro |GeForce )+")


@dataclass(frozen=True, slots=True)
class Use:
    """One run's use of one type of device.

    Attributes:
        device: Name of the device type.
        meters: Seconds and readings of the record.
        energy_j: Estimated energy; ``None`` if unknown.
        basis: Whether the power is measured or the rated board power.
    """

    device: str
    meters: DeviceUse
    energy_j: float | None = None
    basis: Basis | None = None


def rated_power(name: str) -> float | None:
    """Return the rated board power in W of a GPU by its CUDA name, or ``None`` if unknown."""
    short = _MAKERS.sub("", name)
    if "MIG" in short:
        return None
    fits = [known for known in RATED_W if re.match(rf"{re.escape(known)}(?![A-Za-z0-9])", short)]
    return float(RATED_W[max(fits, key=len)]) if fits else None


def is_gpu(device: str) -> bool:
    """Return whether a device of a run record is a GPU rather than a CPU."""
    return not device.startswith("CPU")


def uses_of(run: RunRecord) -> list[Use]:
    """Return a run's use by type of device, since a run may resume on another type.

    The seconds add up to the record's ``device_s``. A record from before types were distinguished
    assigns all seconds to the device that it names.
    """
    uses = [_estimate(name, use) for name, use in run.devices.items() if use.device_s]
    rest = run.device_s - sum(use.meters.device_s for use in uses)
    if rest > (1e-6 * run.device_s if uses else 0):
        uses.append(_estimate(text(run.device_name), DeviceUse(device_s=rest)))
    return uses


def _estimate(device: str, use: DeviceUse) -> Use:
    if use.metered_s:
        return Use(device, use, use.energy_j / use.metered_s * use.device_s, "measured")
    if (power := rated_power(device)) is not None:
        return Use(device, use, power * use.device_s, "rated")
    return Use(device, use)
