"""This process's rank, from the environment, and small collectives over all ranks."""

import os
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist

from rsdl.core.errors import ConfigError

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")

# Range of the rendezvous port of srun tasks without MASTER_PORT: a function of job and step.
FIRST_PORT, NUM_PORTS = 20000, 10000


@dataclass(frozen=True, slots=True)
class RankInfo:
    """Ranks and world sizes of a process.

    Attributes:
        rank: Rank among all processes.
        world_size: Number of processes.
        local_rank: Rank on its node.
        local_world_size: Number of processes on its node.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1

    @property
    def host(self) -> str:
        """Host name of the node."""
        return socket.gethostname()


def find_rank() -> RankInfo | None:
    """Return this process's rank as set by torchrun, our launcher, a PyTorchJob or srun.

    A PyTorchJob sets RANK and WORLD_SIZE only and starts one process in each pod. SLURM_STEP_ID
    marks a task of srun: an sbatch script has none, and trains as a single process.

    Returns:
        The rank; ``None`` for a single process.

    Raises:
        ConfigError: If the environment variables are incomplete, contradictory or not supported.
    """
    told = [name for name in NAMES if os.environ.get(name)]
    if not told:
        _refuse_mpi()
        return _find_in_slurm()
    if told != list(NAMES) and told != list(NAMES[:2]):
        missing = [name for name in NAMES if name not in told]
        raise _refuse(told, f"without {', '.join(missing)}")
    place = RankInfo(*(_read(name) for name in told))
    if len(told) == 2:
        place = RankInfo(place.rank, place.world_size, 0, 1)
        each = os.environ.get("PET_NPROC_PER_NODE", "1")
        if each.isdigit() and int(each) > 1:
            raise _refuse([*told, "PET_NPROC_PER_NODE"], f"is for {each} processes in each pod")
    if place.rank >= place.world_size or place.local_rank >= place.local_world_size:
        raise _refuse(told, "counts a rank that is not below its number of processes")
    # A PyTorchJob of one pod counts as a single node, which may start a process for each device.
    return place if len(told) == 4 or place.world_size > 1 else None


def adopt_rank() -> RankInfo | None:
    """Return this process's rank, and set torchrun's environment variables accordingly.

    Raises:
        ConfigError: See :func:`find_rank`.
    """
    place = find_rank()
    if place is None:
        return None
    if _is_slurm_task():
        os.environ.setdefault("MASTER_ADDR", _first_host(os.environ["SLURM_STEP_NODELIST"]))
        number = _read("SLURM_JOB_ID") * 31 + _read("SLURM_STEP_ID")
        os.environ.setdefault("MASTER_PORT", str(FIRST_PORT + number % NUM_PORTS))
    values = (place.rank, place.world_size, place.local_rank, place.local_world_size)
    os.environ.update({name: str(value) for name, value in zip(NAMES, values, strict=True)})
    return place


def _is_slurm_task() -> bool:
    ours = not any(os.environ.get(name) for name in NAMES)
    return ours and all(os.environ.get(name) for name in ("SLURM_STEP_ID", "SLURM_PROCID"))


def _find_in_slurm() -> RankInfo | None:
    if not _is_slurm_task():
        return None
    total = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in os.environ else "SLURM_NTASKS"
    if total not in os.environ or _read(total) == 1:
        return None
    # "2(x3)" or "2,2,2": the number of tasks on each node.
    tasks = os.environ.get("SLURM_STEP_TASKS_PER_NODE", os.environ.get("SLURM_NTASKS_PER_NODE", ""))
    each = {part.partition("(")[0] for part in tasks.split(",")}
    if len(each) != 1 or not (size := each.pop()).isdigit():
        raise _refuse(["SLURM_STEP_TASKS_PER_NODE"], f'"{tasks}" is not one number for all nodes')
    place = RankInfo(_read("SLURM_PROCID"), _read(total), _read("SLURM_LOCALID"), int(size))
    if place.rank >= place.world_size or place.local_rank >= place.local_world_size:
        raise _refuse(["SLURM_PROCID", "SLURM_LOCALID"], f"not below {total} and tasks per node")
    if "MASTER_ADDR" not in os.environ and not os.environ.get("SLURM_STEP_NODELIST"):
        raise _refuse(["SLURM_PROCID", total], "without SLURM_STEP_NODELIST or MASTER_ADDR")
    return place


def _refuse_mpi() -> None:
    for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE"):
        if not os.environ.get("SLURM_STEP_ID") and os.environ.get(name, "1") != "1":
            raise _refuse([name], f"is {os.environ[name]}, but MPI's own ranks are not read")


def _first_host(nodes: str) -> str:
    """Return the first of ``a[01-04,7],b``."""
    head = re.match(r"([^\[,]+)(?:\[([^\],-]+)[^\]]*\]([^,]*))?", nodes)
    if head is None:
        raise _refuse(["SLURM_STEP_NODELIST"], f'"{nodes}" names no host')
    return "".join(part or "" for part in head.groups())


def _read(name: str) -> int:
    value = os.environ.get(name, "")
    if not (value.isascii() and value.isdigit()):
        raise _refuse([name], f'"{value}" is not a number')
    return int(value)


def _refuse(names: Sequence[str], problem: str) -> ConfigError:
    return ConfigError(
        ", ".join(names), problem, f"start with torchrun, or set {', '.join(NAMES)}, or unset all"
    )


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return this process's rank."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def is_main() -> bool:
    """Return whether this process is rank 0, which writes files and prints to the terminal."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank() == 0
    name = "SLURM_PROCID" if _is_slurm_task() else "RANK"
    return os.environ.get(name) in (None, "", "0")


def sum_over_ranks(values: list[int], device: torch.device) -> list[int]:
    """Return the sums over all ranks; integers wrap at 64 bits as two's complement."""
    if world_size() == 1:
        return values
    wrapped = [value - (1 << 64) if value >= 1 << 63 else value for value in values]
    tensor = torch.tensor(wrapped, dtype=torch.int64, device=device)
    dist.all_reduce(tensor)
    return [int(value) for value in tensor.tolist()]


def any_rank(flag: bool, device: torch.device) -> bool:
    """Return whether any rank passes ``True``; a collective that every rank must call."""
    return bool(max_over_ranks(int(flag), device))


def max_over_ranks(value: int, device: torch.device) -> int:
    """Return the largest value of all ranks; a collective that every rank must call."""
    if world_size() == 1:
        return value
    tensor = torch.tensor([value], device=device)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return int(tensor.item())
