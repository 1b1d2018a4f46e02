"""The processes of one run: how they start together, hear of each other, and end together."""

from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist

from rsdl.core.world import Place, find_place
from rsdl.train.agreement import Agreement
from rsdl.train.meeting import backend_for, find_meeting_point, join_group
from rsdl.train.preempt import StopRequest
from rsdl.train.trainer import TrainerConfig
from rsdl.train.watch import Watch

Value = TypeVar("Value")


@dataclass(slots=True)
class Ranks:
    """This process and the others.

    Attributes:
        place: Who this process is.
        stop: Whether this process was asked to stop.
        watch: What looks after the others.
        agreement: What all ranks agree on at every step.
    """

    place: Place
    stop: StopRequest
    watch: Watch
    agreement: Agreement

    def check(self) -> None:
        """Raise if a rank has failed, or this one was asked to stop before its first step."""
        self.stop.check()
        self.watch.check()

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
    place = find_place()
    if place is None or (place.world_size == 1 and config.strategy != "fsdp"):
        alone = place or Place()
        return Ranks(alone, stop, Watch(alone, None, config.timeout_s), Agreement(None))
    stop.says_so = place.local_rank == 0
    watch = Watch(place, find_meeting_point(), config.timeout_s)
    return Ranks(place, stop, watch, Agreement(None))


def meet(ranks: Ranks, config: TrainerConfig) -> None:
    """Wait for all ranks and form the process group.

    Raises:
        RsdlError: If they do not come in time.
    """
    if find_place() is None or (ranks.place.world_size == 1 and config.strategy != "fsdp"):
        return
    backend = backend_for(config.accelerator)
    if backend == "nccl":
        torch.cuda.set_device(ranks.place.local_rank)
    ranks.watch.start()
    group = join_group(
        ranks.place,
        find_meeting_point(),
        backend=backend,
        patience_s=config.rendezvous_s,
        timeout_s=config.timeout_s,
        check=ranks.check,
    )
    ranks.agreement = Agreement(group)
    ranks.watch.greet()
