"""Asynchronous all-reduce of flags at every step.

The flags of all ranks are summed on the host while the next step is computed, and read one step
later. So all ranks read the same result at the same step, and none waits for the device or for the
slowest rank.
"""

import torch
import torch.distributed as dist
from torch import Tensor


class AsyncFlagReduce:
    """All-reduces flags with a delay of one step; a single process reads its own at once.

    Every rank must make the same sequence of calls.

    Args:
        group: Group of all ranks with a CPU backend; ``None`` for a single process.
    """

    def __init__(self, group: dist.ProcessGroup | None) -> None:
        self.group = group
        self._pending: tuple[Tensor, dist.Work] | None = None

    def read(self, *flags: bool) -> tuple[bool, ...]:
        """Return which flags any rank had set one step ago; alone, return ``flags``."""
        if self.group is None:
            return flags
        if self._pending is None:
            return (False,) * len(flags)
        (sums, work), self._pending = self._pending, None
        work.wait()
        return tuple(bool(value) for value in sums.tolist())

    def start(self, *flags: bool) -> None:
        """Start the all-reduce of this rank's flags, to be read in the next step."""
        if self.group is None:
            return
        assert self._pending is None, "read the last result first"
        sums = torch.tensor(flags, dtype=torch.int32)
        work = dist.all_reduce(sums, group=self.group, async_op=True)
        assert work is not None
        self._pending = sums, work
