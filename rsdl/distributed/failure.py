"""What becomes known of a rank that failed, in a form that travels to all the others."""

import json
from dataclasses import asdict, dataclass

import torch.distributed as dist

from rsdl.core.errors import PeerError, RsdlError
from rsdl.distributed.rank import RankInfo

# What the libraries below say when the other end of a collective is gone.
LOST_WORDS = (
    "gloo", "nccl", "connection closed", "connection reset", "connection refused", "broken pipe",
    "pair closure", "timed out", "timeout", "processgroup", "process group",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Failure:
    """How the run was brought down.

    Attributes:
        rank: The rank that failed; ``None`` where all that is known is that the store is gone.
        where: That rank for people, with its host.
        text: What became of it.
        code: Exit code for all ranks.
        local_rank: Its number on its host.
        lost: Whether it was given up by others, rather than telling of itself.
    """

    rank: int | None
    where: str
    text: str
    code: int = 1
    local_rank: int | None = None
    lost: bool = False

    def to_json(self) -> str:
        """Return it as text; see :meth:`from_json`."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> "Failure":
        """Return the failure that a text holds."""
        return cls(**json.loads(text))

    def to_error(self, place: RankInfo) -> PeerError:
        """Return what a process raises because of it.

        The failed rank speaks for itself and the first process of every node for its neighbours;
        where it is such a first process that is gone, everyone does.
        """
        quiet = place.local_rank != 0 and self.local_rank not in (0, None)
        return PeerError(self.where, self.text, exit_code=self.code, quiet=quiet)


def name_rank(rank: int, host: str) -> str:
    """Return a rank for people."""
    return f"rank {rank} on {host}"


def failure_of(error: BaseException, place: RankInfo) -> Failure:
    """Return what this process's own error means for the others."""
    if isinstance(error, RsdlError):
        text, code = str(error), error.exit_code
    elif isinstance(error, KeyboardInterrupt):
        text, code = "interrupted", 130
    else:
        text, code = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}", 1
    where = name_rank(place.rank, place.host)
    return Failure(place.rank, where, text, code, place.local_rank)


def means_lost_peer(error: BaseException) -> bool:
    """Return whether a collective failed, so that the reason lies with another rank."""
    if isinstance(error, dist.DistError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(word in text for word in LOST_WORDS)


def first_sentence(error: BaseException) -> str:
    """Return what an error says, without PyTorch's stack of C++ frames."""
    text = " ".join(str(error).split())
    return text.split(". Exception raised from")[0].split(" Exception raised from")[0][:300]
