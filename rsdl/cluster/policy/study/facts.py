"""Facts about a study beside its manifests: its configs, and measured GPU use."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RunFacts:
    """The config of a Job, with the Job's overrides and environment.

    Attributes:
        name: Name of the run.
        folder: Output folder of the run.
        architecture: Architecture of the network.
        accelerator: ``auto``, ``cpu`` or ``gpu``.
        devices: Devices on each node; ``None``: all available.
        num_nodes: Nodes; ``None``: as many as were started.
        cache: Folder of the shard cache; ``None``: nothing is cached.
        cache_bytes: Size limit of the cache.
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
    """The reason why the config of a Job does not load.

    Attributes:
        missing: Whether the file does not exist; if ``False``, it is invalid.
        problem: The problem, by field.
        remedy: How to fix it.
    """

    missing: bool
    problem: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Study:
    """Facts about a study.

    Attributes:
        runs: By title of the Job: its config, or why it does not load.
        gpu_use: By name of the run: share of the time that its GPUs were busy, 0 to 1.
    """

    runs: Mapping[str, RunFacts | UnreadableConfig] = field(default_factory=dict)
    gpu_use: Mapping[str, float] = field(default_factory=dict)
