"""Facts about a study beside its manifests: its configs, and measured GPU use.

A config is loaded as its Job will: with the overrides and the environment of the Job.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from rsdl.config.run import RunConfig


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

    runs: Mapping[str, RunConfig | UnreadableConfig] = field(default_factory=dict)
    gpu_use: Mapping[str, float] = field(default_factory=dict)
