"""Device slots of this machine for runs, and the processes on them.

Each slot has one GPU or a share of the cores, and each run its own process. The run's process, not
the sweep, holds the lock beside the run's folder: the lock lasts as long as any process writes
there, whichever sweep started it, and the kernel releases it at exit.
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
    """The devices for one run at a time.

    Attributes:
        name: Name for messages.
        gpu: Its value of CUDA_VISIBLE_DEVICES; ``None`` for cores alone.
        cores: Its number of cores, at least 1.
    """

    name: str
    gpu: str | None
    cores: int


def find_slots(num_devices: int, num_gpus: int) -> list[DeviceSlot]:
    """Return slots on this machine's GPUs, or on its cores where ``num_gpus`` is 0.

    Args:
        num_devices: Number of slots.
        num_gpus: GPUs visible to this process.

    Raises:
        ConfigError: If there are GPUs, but fewer than ``num_devices``.
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
    """Return the folder for locks and logs of an output folder's runs, always on this machine."""
    if isinstance(output, LocalStore):
        return Path(output.url) / FOLDER
    digest = hashlib.sha256(output.url.encode()).hexdigest()[:16]
    return CacheConfig().root / "sweep" / digest


def lock_run(state: Path, name: str) -> int | None:
    """Lock a run; return ``None`` if another process is training it."""
    return lock_file(state / f"{name}.lock", create=True, wait=False)


def log_of(state: Path, name: str) -> Path:
    """Return the log file of a run."""
    return state / f"{name}.log"


def start_run(
    command: Sequence[str], slot: DeviceSlot, log: Path, lock: int
) -> "subprocess.Popen[bytes]":
    """Start a run on a slot; it gets SIGTERM when this process ends.

    Args:
        command: The training command.
        slot: Its devices.
        log: File that its output is appended to.
        lock: The open lock; the child inherits it and this process closes its copy.
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
                start_new_session=True,  # Ctrl-C reaches it only through our signal, and once
            )
    finally:
        os.close(lock)


def last_log_line(log: Path) -> str:
    """Return the last non-empty line of a log."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    said = [line.strip() for line in lines[-50:] if line.strip()]
    return next((line for line in reversed(said) if "--debug for the traceback" not in line), "")
