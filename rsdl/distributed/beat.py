"""One heartbeat of a rank, and what the store keeps of those of earlier attempts."""

import json
from dataclasses import dataclass, replace
from typing import NamedTuple

from torch._C._distributed_c10d import Store

from rsdl.distributed.rendezvous import SECONDS_TO_CONNECT, RendezvousPoint, open_store


@dataclass(frozen=True, slots=True)
class Beat:
    """One heartbeat of a rank.

    Attributes:
        number: Sequence number of the heartbeat.
        turns: Batches so far, of training and validation.
        step: Optimizer steps made.
        doing: Activity, such as "training".
        host: Host name.
        local_rank: Local rank on that host.
        gone: Whether the rank has ended normally.
        at: Time of the last batch, in seconds since the epoch.
    """

    number: int
    turns: int
    step: int
    doing: str
    host: str
    local_rank: int
    gone: bool = False
    at: float = 0.0

    def to_json(self) -> str:
        """Return the heartbeat as JSON; see :meth:`from_json`."""
        return json.dumps([getattr(self, name) for name in self.__slots__])

    @classmethod
    def from_json(cls, text: str | bytes) -> "Beat":
        """Return the heartbeat that JSON describes."""
        return cls(*json.loads(text))


class Progress(NamedTuple):
    """How far a run had come before this start of its processes.

    Attributes:
        step: Optimizer steps.
        at: Time of the last batch, in seconds since the epoch.
    """

    step: int
    at: float


def has_trained(store: Store) -> bool:
    """Return whether the ranks that use a store have trained on a batch."""
    return store.check(keys_of(1)) and Beat.from_json(store.get(keys_of(1)[0])).turns > 0


def find_progress(point: RendezvousPoint, world_size: int) -> Progress | None:
    """Return how far the latest earlier attempt came that trained, as its store knows.

    Args:
        point: Address of the store, with the attempt of this process.
        world_size: Ranks of that earlier attempt.

    Returns:
        Its progress; ``None`` if the store knows of none.

    Raises:
        torch.distributed.DistError: If the store does not answer.
    """
    run, _, number = point.attempt.rpartition("-")
    for attempt in range(int(number) - 1, 0, -1):
        earlier = replace(point, attempt=f"{run}-{attempt}")
        store = open_store(earlier, timeout_s=SECONDS_TO_CONNECT)
        keys = [key for key in keys_of(world_size) if store.check([key])]
        beats = [Beat.from_json(store.get(key)) for key in keys]
        if trained := [beat for beat in beats if beat.turns]:
            return Progress(max(beat.step for beat in trained), max(beat.at for beat in trained))
    return None


def keys_of(world_size: int) -> list[str]:
    """Return the keys of all ranks' heartbeats in the store."""
    return [f"beat/{rank}" for rank in range(world_size)]
