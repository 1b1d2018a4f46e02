"""Device statistics: readings of meters, and the sums that a run record keeps.

A resumed run adds to the same sums, kept separately for each type of device.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import fsum

from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True, slots=True)
class DeviceReading:
    """One reading of a device's meters.

    Attributes:
        utilization: Share of the last sampling period in which the device computed, 0 to 1.
        memory_bytes: Memory in use, by all processes.
        power_w: Current power.
        energy_j: Energy used since power-on or since the driver was loaded.
    """

    utilization: float | None = None
    memory_bytes: int | None = None
    power_w: float | None = None
    energy_j: float | None = None


@dataclass(slots=True)
class DeviceReadingSums:
    """Sums of readings.

    Attributes:
        readings: Number of utilization readings.
        utilization_sum: Sum of these readings.
        memory_bytes: Peak memory in use on one device.
        energy_j: Energy used in ``metered_s``.
        metered_s: Device seconds that ``energy_j`` covers.
    """

    readings: int = 0
    utilization_sum: float = 0.0
    memory_bytes: int | None = None
    energy_j: float = 0.0
    metered_s: float = 0.0

    def add(self, before: DeviceReading | None, now: DeviceReading, passed_s: float) -> None:
        """Add one device's reading, taken ``passed_s`` after the previous one, if any."""
        if now.utilization is not None:
            self.readings += 1
            self.utilization_sum += now.utilization
        if now.memory_bytes is not None:
            self.memory_bytes = max(now.memory_bytes, self.memory_bytes or 0)
        if before is not None and (used := energy_between(before, now, passed_s)) is not None:
            self.energy_j += used
            self.metered_s += passed_s

    @property
    def utilization(self) -> float | None:
        """Mean utilization, 0 to 1; ``None`` without readings."""
        return self.utilization_sum / self.readings if self.readings else None


class DeviceUse(BaseModel):
    """A run's use of one type of device, over all its resumes.

    Attributes:
        device_s: Seconds, summed over all devices.
        readings: Number of readings that ``utilization`` averages.
        utilization: Mean share of the time in which a device computed, 0 to 1.
        memory_bytes: Peak memory in use on one device.
        energy_j: Energy used in ``metered_s``.
        metered_s: Device seconds that ``energy_j`` covers; 0 if power is not metered.
    """

    model_config = ConfigDict(extra="ignore")

    device_s: float = 0.0
    readings: int = 0
    utilization: float | None = None
    memory_bytes: int | None = None
    energy_j: float = 0.0
    metered_s: float = 0.0

    def add(self, sums: DeviceReadingSums) -> None:
        """Add sums of further readings."""
        pairs = [(self.utilization, self.readings), (sums.utilization, sums.readings)]
        self.utilization = weighted_mean(pairs)
        self.readings += sums.readings
        if sums.memory_bytes is not None:
            self.memory_bytes = max(sums.memory_bytes, self.memory_bytes or 0)
        self.energy_j += sums.energy_j
        self.metered_s += sums.metered_s


def energy_between(before: DeviceReading, now: DeviceReading, passed_s: float) -> float | None:
    """Return the energy in J between two readings: from the counter, else from the mean power."""
    if before.energy_j is not None and now.energy_j is not None and now.energy_j >= before.energy_j:
        return now.energy_j - before.energy_j
    if before.power_w is not None and now.power_w is not None:
        return (before.power_w + now.power_w) / 2 * passed_s
    return None


def mean_utilization(uses: Iterable[DeviceUse]) -> float | None:
    """Return the mean over all readings of all device types; ``None`` without readings."""
    return weighted_mean((use.utilization, use.readings) for use in uses)


def weighted_mean(pairs: Iterable[tuple[float | None, float]]) -> float | None:
    """Return the mean of (value, weight) pairs that have a value; ``None`` without weight."""
    known = [(value, weight) for value, weight in pairs if value is not None]
    total = fsum(weight for _, weight in known)
    return fsum(value * weight for value, weight in known) / total if total else None
