"""What is known of a study beside its manifests: what its configs say, how busy GPUs were."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What the config of a Job says, with the Job's overrides and environment.

    Attributes:
        name: Name of the run.
        folder: Where the run is written.
        architecture: What is trained.
        accelerator: ``auto``, ``cpu`` or ``gpu``.
        devices: Devices on each node; ``None``: all there are.
        num_nodes: Nodes; ``None``: as many as started.
        cache: Folder of the copies of remote shards; ``None``: none are kept.
        cache_bytes: Bytes that they may take.
    """

    name: str
    folder: str
    architecture: str
    accelerator: str = "auto"
    devices: int | None = None
    num_nodes: int | None = None
    cache: str | None = None
    cache_bytes: int = 0


@dataclass(frozen=True, slots=True)
class UnreadableConfig:
    """Why the config of a Job does not load.

    Attributes:
        missing: Whether there is no such file; else it is wrong.
        problem: What is wrong, by field.
        remedy: What to do about it.
    """

    missing: bool
    problem: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Study:
    """What is known of a study.

    Attributes:
        runs: By title of the Job: what its config says, or why it does not load.
        gpu_use: By name of the run: share of the time that its GPUs were busy, 0 to 1.
    """

    runs: Mapping[str, RunFacts | UnreadableConfig] = field(default_factory=dict)
    gpu_use: Mapping[str, float] = field(default_factory=dict)
