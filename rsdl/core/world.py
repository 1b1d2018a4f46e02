"""The processes that train together: who am I, and what do we all say."""

import os

import torch
import torch.distributed as dist


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
    if "RANK" in os.environ:
        return os.environ["RANK"] == "0"
    # As Lightning sets them: one process a node is started by hand, and starts the others.
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "NODE_RANK"))


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
