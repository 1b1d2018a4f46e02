"""The processes of one run: how they start together, hear of each other, and end together."""

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
    """This process and the others.

    Attributes:
        place: Who this process is.
        stop: Whether this process was asked to stop.
        heartbeat: What looks after the others.
        agreement: What all ranks agree on at every step.
    """

    place: RankInfo
    stop: StopRequest
    heartbeat: Heartbeat
    agreement: AsyncFlagReduce

    def check(self) -> None:
        """Raise if a rank has failed, or this one was asked to stop before its first step."""
        self.stop.check()
        self.heartbeat.check()

    def tell(self, value: Value) -> Value:
        """Return the first rank's value on all ranks; every rank must ask."""
        if self.place.world_size == 1:
            return value
        values: list[Value | None] = [value if self.place.rank == 0 else None]
        dist.broadcast_object_list(values, src=0, group=self.agreement.group)
        told = values[0]
        return told  # type: ignore[return-value]


def find_ranks(config: TrainerConfig, stop: StopRequest) -> Ranks:
    """Return what this process knows of the others, before it has met them."""
    place = find_rank()
    if place is None or (place.world_size == 1 and config.strategy != "fsdp"):
        alone = place or RankInfo()
        return Ranks(alone, stop, Heartbeat(alone, None, config.timeout_s), AsyncFlagReduce(None))
    stop.says_so = place.local_rank == 0
    heartbeat = Heartbeat(place, find_rendezvous(), config.timeout_s)
    return Ranks(place, stop, heartbeat, AsyncFlagReduce(None))


def meet(ranks: Ranks, config: TrainerConfig) -> None:
    """Wait for all ranks and form the process group.

    Raises:
        RsdlError: If they do not come in time.
    """
    if find_rank() is None or (ranks.place.world_size == 1 and config.strategy != "fsdp"):
        return
    backend = backend_for(config.accelerator)
    if backend == "nccl":
        torch.cuda.set_device(ranks.place.local_rank)
    ranks.heartbeat.start()
    group = join_group(
        ranks.place,
        find_rendezvous(),
        backend=backend,
        patience_s=config.rendezvous_s,
        timeout_s=config.timeout_s,
        check=ranks.check,
    )
    ranks.agreement = AsyncFlagReduce(group)
    ranks.heartbeat.greet()
