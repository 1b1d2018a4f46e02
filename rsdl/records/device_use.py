"""How devices were used: readings of their meters, and the sums that a run record keeps.

A run that is resumed, perhaps on another type of device, goes on adding to the same sums.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True, slots=True)
class DeviceReading:
    """What the meters of one device say.

    Attributes:
        utilization: Share of the last moment in which it computed, 0 to 1.
        memory_bytes: Memory that is taken, by whomever.
        power_w: Power now.
        energy_j: What it has used since it was switched on or its driver loaded.
    """

    utilization: float | None = None
    memory_bytes: int | None = None
    power_w: float | None = None
    energy_j: float | None = None


@dataclass(slots=True)
class DeviceReadingSums:
    """Readings added up.

    Attributes:
        readings: Readings of the utilization.
        utilization_sum: Their sum.
        memory_bytes: The most memory that was taken of one device.
        energy_j: What was used in ``metered_s``.
        metered_s: Device seconds that ``energy_j`` is known for.
    """

    readings: int = 0
    utilization_sum: float = 0.0
    memory_bytes: int | None = None
    energy_j: float = 0.0
    metered_s: float = 0.0

    def add(self, before: DeviceReading | None, now: DeviceReading, passed_s: float) -> None:
        """Add one device's reading, ``passed_s`` after the one before, if there was one."""
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
        """The mean, 0 to 1."""
        return self.utilization_sum / self.readings if self.readings else None


class DeviceUse(BaseModel):
    """What a run has used of one type of device, over all its resumes.

    Attributes:
        device_s: Seconds, over all devices.
        readings: Readings behind ``utilization``.
        utilization: Mean share of the time that a device computed, 0 to 1.
        memory_bytes: The most memory that was taken of one device.
        energy_j: What was used in ``metered_s``.
        metered_s: Device seconds that ``energy_j`` is known for; 0 where power is not metered.
    """

    model_config = ConfigDict(extra="ignore")

    device_s: float = 0.0
    readings: int = 0
    utilization: float | None = None
    memory_bytes: int | None = None
    energy_j: float = 0.0
    metered_s: float = 0.0

    def add(self, sums: DeviceReadingSums) -> None:
        """Go on averaging and adding up."""
        if sums.readings:
            total = (self.utilization or 0.0) * self.readings + sums.utilization_sum
            self.readings += sums.readings
            self.utilization = total / self.readings
        if sums.memory_bytes is not None:
            self.memory_bytes = max(sums.memory_bytes, self.memory_bytes or 0)
        self.energy_j += sums.energy_j
        self.metered_s += sums.metered_s


def energy_between(before: DeviceReading, now: DeviceReading, passed_s: float) -> float | None:
    """Return the joules between two readings: by the counter, else by the mean of the powers."""
    if before.energy_j is not None and now.energy_j is not None and now.energy_j >= before.energy_j:
        return now.energy_j - before.energy_j
    if before.power_w is not None and now.power_w is not None:
        return (before.power_w + now.power_w) / 2 * passed_s
    return None


def mean_utilization(uses: Iterable[DeviceUse]) -> float | None:
    """Return the mean over all readings of all types; ``None`` where there are none."""
    known = [(use.utilization, use.readings) for use in uses if use.utilization is not None]
    readings = sum(count for _, count in known)
    return sum(share * count for share, count in known) / readings if readings else None
