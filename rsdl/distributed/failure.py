"""The failure of a rank, as JSON that is passed to all other ranks."""

import json
from dataclasses import asdict, dataclass

import torch.distributed as dist

from rsdl.core.errors import PeerError, RsdlError
from rsdl.distributed.rank import RankInfo

# Messages of gloo, NCCL and sockets when a peer of a collective is gone.
LOST_WORDS = (
    "gloo", "nccl", "connection closed", "connection reset", "connection refused", "broken pipe",
    "pair closure", "timed out", "timeout", "processgroup", "process group",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Failure:
    """The failure that ends a run.

    Attributes:
        rank: The rank that failed; ``None`` if unknown, as when only the store is gone.
        where: Name of that rank and its host, for messages.
        text: Description of the failure, for messages.
        code: Exit code for all ranks.
        local_rank: Local rank of the failed rank.
        lost: Whether other ranks declared it lost, rather than the rank reporting itself.
    """

    rank: int | None
    where: str
    text: str
    code: int = 1
    local_rank: int | None = None
    lost: bool = False

    def to_json(self) -> str:
        """Return the failure as JSON; see :meth:`from_json`."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> "Failure":
        """Return the failure that JSON describes."""
        return cls(**json.loads(text))

    def to_error(self, rank_info: RankInfo) -> PeerError:
        """Return the error that a process raises because of this failure.

        To print the message once a node, only the failed rank and local rank 0 of each node print
        it. If the failed rank is itself a local rank 0, or unknown, all ranks print it.
        """
        quiet = rank_info.local_rank != 0 and self.local_rank not in (0, None)
        return PeerError(self.where, self.text, exit_code=self.code, quiet=quiet)


def name_rank(rank: int, host: str) -> str:
    """Return the name of a rank for messages."""
    return f"rank {rank} on {host}"


def failure_of(error: BaseException, rank_info: RankInfo) -> Failure:
    """Return this process's own error as a failure for the other ranks."""
    if isinstance(error, RsdlError):
        text, code = str(error), error.exit_code
    elif isinstance(error, KeyboardInterrupt):
        text, code = "interrupted", 130
    else:
        text, code = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}", 1
    where = name_rank(rank_info.rank, rank_info.host)
    return Failure(rank_info.rank, where, text, code, rank_info.local_rank)


def means_lost_peer(error: BaseException) -> bool:
    """Return whether an error is of a failed collective, which another rank has caused."""
    if isinstance(error, dist.DistError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(word in text for word in LOST_WORDS)


def first_sentence(error: BaseException) -> str:
    """Return the message of an error, without PyTorch's stack of C++ frames."""
    text = " ".join(str(error).split())
    return text.split(" Exception raised from")[0][:300].rstrip(".")
