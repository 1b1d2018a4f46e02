"""The ranks of one run: initialize the process group, exchange values, detect failures."""

from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist

from rsdl.config.trainer import TrainerConfig
from rsdl.distributed.flag_reduce import AsyncFlagReduce
from rsdl.distributed.heartbeat import Heartbeat
from rsdl.distributed.rank import RankInfo, find_rank
from rsdl.distributed.rendezvous import backend_for, find_rendezvous, join_group
from rsdl.train.signals import StopRequest

Value = TypeVar("Value")


@dataclass(slots=True)
class Ranks:
    """This process's rank, and its connections to the other ranks.

    Attributes:
        rank_info: This process's rank.
        stop: Whether this process was asked to stop.
        heartbeat: Monitors the other ranks.
        flag_reduce: All-reduces flags at every step.
    """

    rank_info: RankInfo
    stop: StopRequest
    heartbeat: Heartbeat
    flag_reduce: AsyncFlagReduce

    def check(self) -> None:
        """Raise if a rank has failed, or if this one was asked to stop before its first step."""
        self.stop.check()
        self.heartbeat.check()

    def broadcast(self, value: Value) -> Value:
        """Broadcast rank 0's value; a collective that every rank must call."""
        if self.rank_info.world_size == 1:
            return value
        values: list[Value | None] = [value if self.rank_info.rank == 0 else None]
        dist.broadcast_object_list(values, src=0, group=self.flag_reduce.group)
        result = values[0]
        return result  # type: ignore[return-value]


def find_ranks(config: TrainerConfig, stop: StopRequest) -> Ranks:
    """Return the ranks as known from the environment, before the rendezvous."""
    rank_info = find_rank()
    if rank_info is None:
        alone = RankInfo()
        return Ranks(alone, stop, Heartbeat(alone, None, config.timeout_s), AsyncFlagReduce(None))
    stop.is_reporter = rank_info.local_rank == 0
    point = find_rendezvous()
    # A rank alone may be one of several before, or later.
    has_peers = rank_info.world_size > 1 or point.hosted
    heartbeat = Heartbeat(rank_info, point if has_peers else None, config.timeout_s)
    return Ranks(rank_info, stop, heartbeat, AsyncFlagReduce(None))


def init_process_group(ranks: Ranks, config: TrainerConfig) -> None:
    """Wait for all ranks and form the process group.

    Raises:
        RsdlError: If not all ranks join in time.
    """
    if find_rank() is None:
        return
    ranks.heartbeat.start()
    if ranks.rank_info.world_size == 1 and config.strategy != "fsdp":
        return
    backend = backend_for(config.accelerator)
    if backend == "nccl":
        torch.cuda.set_device(ranks.rank_info.local_rank)
    group = join_group(
        ranks.rank_info,
        find_rendezvous(),
        backend=backend,
        patience_s=config.rendezvous_s,
        timeout_s=config.timeout_s,
        check=ranks.check,
    )
    ranks.flag_reduce = AsyncFlagReduce(group)
    ranks.heartbeat.wait_for_peers()
