"""The machine, its load, and package versions: what a measured value depends on."""

import os
import platform
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "torchvision", "numpy")


def describe_machine() -> dict[str, Any]:
    """Return processor, usable cores, memory, system, and load."""
    facts = {
        "processor": _field("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": count_cores(),
        "memory_gb": round(_physical_memory() / 1e9, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
        "threads": {
            name: os.environ[name]
            for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
            if name in os.environ
        },
    }
    return facts | _describe_gpu()


def count_cores() -> int:
    """Return the cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def describe_versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Return the versions of installed packages; those that are not installed are left out."""
    versions = {}
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _field(path: str, name: str) -> str | None:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), None)


def _physical_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _describe_gpu() -> dict[str, Any]:
    """Return the GPU's facts if the benchmark itself has loaded PyTorch with one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return {}
    return {"gpu": torch.cuda.get_device_name(0), "gpus": torch.cuda.device_count()}
