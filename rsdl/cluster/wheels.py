"""The PyTorch builds of the image: one row for each lock file in ``docker/``.

Architectures were read from the wheels, by ``torch._C._cuda_getArchFlags()``; the oldest driver of
each CUDA is from NVIDIA, https://docs.nvidia.com/deploy/cuda-compatibility, "Minor Version
Compatibility".
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wheel:
    """A build of PyTorch.

    Attributes:
        torch: Its version.
        lock: The lock file in ``docker/``.
        cuda: Its CUDA version.
        driver: The oldest driver that runs it, by major version.
        architectures: Compute capabilities that it has code for.
    """

    torch: str
    lock: str
    cuda: str
    driver: int
    architectures: tuple[tuple[int, int], ...]

    def runs_on(self, capability: tuple[int, int]) -> bool:
        """Return whether a GPU can run it: code for 8.0 runs on 8.6, but not on 9.0."""
        return any(
            major == capability[0] and minor <= capability[1] for major, minor in self.architectures
        )


WHEELS = {
    "13": Wheel(
        "2.14.1", "requirements.lock", "13.0", 580,
        ((7, 5), (8, 0), (8, 6), (9, 0), (10, 0), (12, 0)),
    ),
    "12": Wheel(
        "2.10.0", "requirements-cuda12.lock", "12.8", 525,
        ((7, 0), (7, 5), (8, 0), (8, 6), (9, 0), (10, 0), (12, 0)),
    ),
}  # fmt: skip
