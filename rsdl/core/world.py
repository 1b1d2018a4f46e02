"""The processes that train together: who am I, and what do we all say."""

import os
import socket
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process stands among those that train together.

    Attributes:
        rank: Its number among all.
        world_size: Number of processes.
        local_rank: Its number on its node.
        local_world_size: Number of processes on its node.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1

    @property
    def host(self) -> str:
        """What the node calls itself."""
        return socket.gethostname()


def find_place() -> Place | None:
    """Return where torchrun, or our own launcher, has put this process; ``None`` if neither did."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    if any(not os.environ.get(name, "").isdigit() for name in names):
        return None
    return Place(*(int(os.environ[name]) for name in names))


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return this process's number among all."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def is_main() -> bool:
    """Return whether this process writes files and talks to the user."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank() == 0
    return os.environ.get("RANK", "0") == "0"


def sum_over_ranks(values: list[int], device: torch.device) -> list[int]:
    """Return the sums over all processes; integers wrap at 64 bits as two's complement."""
    if world_size() == 1:
        return values
    wrapped = [value - (1 << 64) if value >= 1 << 63 else value for value in values]
    tensor = torch.tensor(wrapped, dtype=torch.int64, device=device)
    dist.all_reduce(tensor)
    return [int(value) for value in tensor.tolist()]


def any_rank(flag: bool, device: torch.device) -> bool:
    """Return whether any process says yes; every process must ask at the same place."""
    if world_size() == 1:
        return flag
    tensor = torch.tensor([int(flag)], device=device)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return bool(tensor.item())
