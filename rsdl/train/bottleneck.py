"""Find why a GPU is not busy: reading, decoding or the model. Pure functions.

If waiting for data takes more than half of the GPU's idle time, the data is the bottleneck;
otherwise the model is, since steps that are too small leave a GPU waiting for its driver.
Within the data, decoding is the bottleneck if the cores are busy, and reading if they are not.
"""

from dataclasses import dataclass
from typing import Literal

LOW_USE = 0.4
BUSY_CORES = 0.7


@dataclass(frozen=True, slots=True)
class StepCosts:
    """Where the time of an interval of training went.

    Attributes:
        seconds: Length of the interval.
        readings: Number of GPU utilization readings.
        utilization_sum: Sum of these readings, each 0 to 1.
        waited_s: Seconds in which training waited for data.
        cpu_s: CPU seconds of this process, over all cores.
        encoded_bytes: Bytes of images that were decoded; 0 if all decoded pixels were kept.
    """

    seconds: float = 0.0
    readings: int = 0
    utilization_sum: float = 0.0
    waited_s: float = 0.0
    cpu_s: float = 0.0
    encoded_bytes: int = 0

    def __add__(self, other: "StepCosts") -> "StepCosts":
        """Return the sums of both intervals."""
        return StepCosts(
            self.seconds + other.seconds,
            self.readings + other.readings,
            self.utilization_sum + other.utilization_sum,
            self.waited_s + other.waited_s,
            self.cpu_s + other.cpu_s,
            self.encoded_bytes + other.encoded_bytes,
        )

    @property
    def utilization(self) -> float | None:
        """Mean utilization of the GPUs, 0 to 1; ``None`` without readings."""
        return self.utilization_sum / self.readings if self.readings else None

    @property
    def is_low(self) -> bool:
        """Whether GPU utilization is below what a shared cluster allows."""
        return self.utilization is not None and self.utilization < LOW_USE


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """The bottleneck of a run.

    Attributes:
        part: The limiting part of the run.
        text: Message for the user, with a remedy.
    """

    part: Literal["data", "decode", "model"]
    text: str


def find_bottleneck(costs: StepCosts, cores: int) -> Bottleneck:
    """Return the bottleneck of a run whose GPU utilization is low.

    Args:
        costs: Where the run's time went.
        cores: Cores that its process may use.
    """
    wait = min(costs.waited_s / max(costs.seconds, 1e-9), 1.0)
    busy = min(costs.cpu_s / max(costs.seconds * cores, 1e-9), 1.0)
    waited = f"{wait:.0%} of the time is spent waiting for data"
    if wait < (1 - (costs.utilization or 0.0)) / 2:
        return Bottleneck(
            "model",
            f"the model is the bottleneck ({waited}): its steps are too small for this GPU; raise "
            "data.batch_size, pass trainer.compile=on, or take a smaller GPU",
        )
    at_work = f"{waited}, {cores} core{'' if cores == 1 else 's'} {busy:.0%} busy"
    if busy >= BUSY_CORES and costs.encoded_bytes:
        return Bottleneck(
            "decode",
            f"decoding is the bottleneck ({at_work}): give it more cores, keep the pixels "
            "(data.decoded_cache), or shrink them (data.decode_size)",
        )
    if busy >= BUSY_CORES:
        return Bottleneck(
            "decode",
            f"cropping and resizing of kept pixels is the bottleneck ({at_work}): give it more "
            "cores, or keep the pixels on the GPU (data.resident=auto)",
        )
    if costs.encoded_bytes:
        return Bottleneck(
            "data",
            f"reading the shards is the bottleneck ({at_work}): put them nearer to the GPU, keep "
            "copies on the node (data.cache), or raise data.num_workers",
        )
    return Bottleneck(
        "data",
        f"reading kept pixels is the bottleneck ({at_work}): put data.cache.folder on a faster "
        "disk, or keep the pixels on the GPU (data.resident=auto)",
    )
