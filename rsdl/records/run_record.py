"""The record of a run, ``run.json``, which reports are made from.

A resumed run adds to the time, bytes and preemptions that the killed run had recorded.
"""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from rsdl import __version__
from rsdl.config.task import BoxKind, TaskFacts, TaskName, find_facts
from rsdl.core.image_size import ImageSize
from rsdl.core.sample_counts import SampleCounts
from rsdl.records.device_use import DeviceReadingSums, DeviceUse, mean_utilization

RECORD = "run.json"
HISTORY = "metrics.csv"
CONFIG = "config.yaml"
REPORT = "report.html"
LAST = "checkpoints/last.ckpt"
BEST = "checkpoints/best.ckpt"
Status = Literal["running", "completed", "preempted", "failed"]
PACKAGES = ("torch", "torchvision", "timm", "pytorch-lightning", "numpy", "rasterio", "simplejpeg")


class LedgerEntry(BaseModel):
    """Sample counts of one epoch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: int
    split: str
    planned: int
    delivered: int
    padded: int
    skipped: int
    fingerprint: str
    balanced: bool


class World(BaseModel):
    """What a run trained on from one start of its processes to the next."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    world_size: int
    accumulate: int
    step: int  # optimizer steps at its start
    idle_s: float  # without a step, from the last one before it to its first
    samples_redone: int  # that had been trained on since the checkpoint it began from


class RunRecord(BaseModel):
    """Facts of a run for reports; see DESIGN: contract "a run"."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    format: Literal[1] = 1
    name: str
    task: TaskName = "classification"
    boxes: BoxKind | None = None  # of detection
    status: Status = "running"
    reason: str = ""
    rsdl_version: str = __version__
    git_revision: str | None = None
    config_digest: str
    manifest_digest: str
    split_draw: str = ""  # equal for data sets that differ only in the seed of their split
    seed: int
    fold: str | None = None  # K/N of a cross-validation
    architecture: str
    timm_model: str
    parameters: int
    dataset: str
    num_classes: int
    bands: int
    image_size: ImageSize
    global_batch: int
    epochs_planned: int
    epochs_completed: int = 0
    optimizer_steps: int = 0
    extended_at: list[int] = Field(default_factory=list)  # steps at which it had been completed
    samples_read: int = 0
    bytes_encoded: int = 0
    bytes_decoded: int = 0
    wall_s: float = 0.0
    device_s: float = 0.0
    device_name: str = ""
    device_count: int = 1
    data_wait_s: float = 0.0
    gpu_utilization: float | None = None
    devices: dict[str, DeviceUse] = Field(default_factory=dict)
    preemptions: int = 0
    resumes: int = 0
    worlds: list[World] = Field(default_factory=list)
    started_at: str = Field(default_factory=lambda: now())
    updated_at: str = Field(default_factory=lambda: now())
    metrics: dict[str, dict[str, float | int | None]] = Field(default_factory=dict)
    ledger: list[LedgerEntry] = Field(default_factory=list)
    environment: dict[str, str] = Field(default_factory=dict)

    @property
    def facts(self) -> TaskFacts:
        """Facts of the task, such as its primary metric."""
        return find_facts(self.task, self.boxes)

    def score(self, kind: str) -> float | None:
        """Return the primary metric of ``best``, ``final`` or a split; ``None`` if unknown."""
        return self.metrics.get(kind, {}).get(self.facts.primary_metric)

    @property
    def work(self) -> SampleCounts:
        """Samples and bytes read so far."""
        return SampleCounts(
            delivered=self.samples_read,
            encoded_bytes=self.bytes_encoded,
            decoded_bytes=self.bytes_decoded,
        )

    def set_work(self, counts: SampleCounts) -> None:
        """Set the samples and bytes read so far, over all ranks and resumes."""
        self.samples_read = counts.delivered
        self.bytes_encoded = counts.encoded_bytes
        self.bytes_decoded = counts.decoded_bytes

    def add_time(self, passed_s: float) -> None:
        """Add elapsed seconds, for all devices and for their type."""
        self.wall_s += passed_s
        device_s = passed_s * self.device_count
        self.device_s += device_s
        self.devices.setdefault(self.device_name, DeviceUse()).device_s += device_s

    def add_readings(self, sums: DeviceReadingSums) -> None:
        """Add readings of the devices that the run uses now."""
        self.devices.setdefault(self.device_name, DeviceUse()).add(sums)
        self.gpu_utilization = mean_utilization(self.devices.values())


def describe_environment() -> dict[str, str]:
    """Return the versions of Python, the platform and the packages that affect results."""
    facts = {"python": platform.python_version(), "platform": platform.platform()}
    for name in PACKAGES:
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            continue
    return facts


def git_revision() -> str | None:
    """Return the Git revision of the running checkout, with ``+`` if modified; ``None`` if none."""
    if (given := os.environ.get("RSDL_GIT_REVISION")) is not None:
        return given or None
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=40"]
        command.append("--exclude=*")
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def now() -> str:
    """Return the time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
