"""The devices of this machine as slots for runs, and the processes on them.

Each slot has one GPU, or a share of the cores, and each run a process of its own. A lock beside
the run's folder belongs to that process and not to the sweep: it is held for as long as anybody
writes there, whoever started it, and the kernel lets it go.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rsdl.core.errors import ConfigError
from rsdl.core.resources import CORES_VARIABLE, usable_cores
from rsdl.storage.cache.config import CacheConfig
from rsdl.storage.local import LocalStore
from rsdl.storage.locks import lock_file
from rsdl.storage.store import Store

FOLDER = ".sweep"


@dataclass(frozen=True, slots=True)
class DeviceSlot:
    """Where one run at a time can be.

    Attributes:
        name: What to call it.
        gpu: What CUDA_VISIBLE_DEVICES says of it; ``None`` for cores alone.
        cores: Cores that are its share, at least 1.
    """

    name: str
    gpu: str | None
    cores: int


def find_slots(num_devices: int, num_gpus: int) -> list[DeviceSlot]:
    """Return slots on this machine's GPUs, or on its cores where ``num_gpus`` is 0.

    Args:
        num_devices: How many slots.
        num_gpus: GPUs that this process sees.

    Raises:
        ConfigError: If there are GPUs, but fewer.
    """
    cores = max(1, usable_cores() // num_devices)
    if not num_gpus:
        return [DeviceSlot(f"CPU {k}", None, cores) for k in range(num_devices)]
    if num_devices > num_gpus:
        problem = f"is {num_devices}, there are {num_gpus} GPUs here"
        raise ConfigError("--devices", problem, "use less, or trainer.accelerator=cpu")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(k) for k in range(num_gpus)]
    return [DeviceSlot(f"GPU {name}", name.strip(), cores) for name in names[:num_devices]]


def state_folder(output: Store) -> Path:
    """Return where locks and logs of the runs in a folder lie: on this machine in any case."""
    if isinstance(output, LocalStore):
        return Path(output.url) / FOLDER
    digest = hashlib.sha256(output.url.encode()).hexdigest()[:16]
    return CacheConfig().root / "sweep" / digest


def lock_run(state: Path, name: str) -> int | None:
    """Take the lock of a run; ``None`` where a process holds it that trains that run now."""
    return lock_file(state / f"{name}.lock", create=True, wait=False)


def log_of(state: Path, name: str) -> Path:
    """Return the file with what a run has said."""
    return state / f"{name}.log"


def start_run(
    command: Sequence[str], slot: DeviceSlot, log: Path, lock: int
) -> "subprocess.Popen[bytes]":
    """Start a run at a slot; it is told to end when this process does.

    Args:
        command: What trains it.
        slot: Where.
        log: Gets what it says, after what is there.
        lock: The open lock; the process holds it from now on, and this one no longer.
    """
    threads = str(slot.cores)
    environment = {"OMP_NUM_THREADS": threads, **os.environ, CORES_VARIABLE: threads}
    if slot.gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = slot.gpu
    try:
        with log.open("ab") as stream:
            return subprocess.Popen(
                [sys.executable, "-m", "rsdl.cluster.pdeathsig", str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env=environment,
                pass_fds=(lock,),
                start_new_session=True,  # Ctrl-C reaches it through us, and once
            )
    finally:
        os.close(lock)


def last_log_line(log: Path) -> str:
    """Return the last line of a log that says something."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    said = [line.strip() for line in lines[-50:] if line.strip()]
    return next((line for line in reversed(said) if "--debug for the traceback" not in line), "")
