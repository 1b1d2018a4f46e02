"""The CPU cores and memory that this process may use, with its container's limits.

A pod with 4 cores on a node of 128 sees all 128 in ``os.cpu_count()``, and one thread for each
would be heavily throttled. So this module also reads the CPU affinity and control groups (version
2, and version 1 on older systems). A limit that cannot be read is ignored.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")

# Set for child processes that share this machine, such as the runs of a local sweep.
CORES_VARIABLE = "RSDL_CORES"


def usable_cores(root: Path = ROOT) -> int:
    """Return the number of cores that this process may use, at least 1.

    Args:
        root: Where ``proc`` and ``sys`` are mounted; another one for tests.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    quotas = [_cpu_quota(folder) for folder in _groups("cpu", root)]
    quotas.append(_number(os.environ.get(CORES_VARIABLE, "")))
    return max(1, math.floor(min([float(cores), *(q for q in quotas if q is not None)])))


def usable_memory(root: Path = ROOT) -> int:
    """Return the bytes of memory that all processes of this container may use together.

    Args:
        root: Where ``proc`` and ``sys`` are mounted; another one for tests.
    """
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    names = ("memory.max", "memory.limit_in_bytes")
    limits = [_number(_read(folder / name)) for folder in _groups("memory", root) for name in names]
    return min([physical, *(limit for limit in limits if limit is not None)])


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """Yield the folders of this process's control group and of its parent groups."""
    mount = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        base = mount / controllers if controllers else mount
        group = Path(path.lstrip("/"))
        yield from (base / part for part in (group, *group.parents))


def _cpu_quota(folder: Path) -> float | None:
    """Return the CPU quota of a group in cores, or ``None`` if it is not limited."""
    quota, _, period = _read(folder / "cpu.max").partition(" ")
    if not quota:
        quota, period = (_read(folder / f"cpu.cfs_{part}_us") for part in ("quota", "period"))
    granted, every = _number(quota), _number(period)
    return granted / every if granted and every else None


def _number(text: str) -> int | None:
    """Return a limit as a number; ``max``, ``-1`` and an empty text give ``None``."""
    return int(text) if text.strip().isdigit() else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
