"""What ranks agree on at every step, without any of them waiting for it.

Each rank's flags are added up over all ranks on the host, while the next step is computed, and the
sum is looked at one turn later: all ranks read the same answer at the same turn, and none has to
wait for the device or for the slowest.
"""

import torch
import torch.distributed as dist
from torch import Tensor


class AsyncFlagReduce:
    """Flags of all ranks, told one turn late; alone, a process hears its own at once.

    Every rank must take the same turns.

    Args:
        group: All ranks, over a backend of the host; ``None`` alone.
    """

    def __init__(self, group: dist.ProcessGroup | None) -> None:
        self.group = group
        self._pending: tuple[Tensor, dist.Work] | None = None

    def read(self, *flags: bool) -> tuple[bool, ...]:
        """Return which flags some rank had raised a turn ago; alone, which are raised now."""
        if self.group is None:
            return flags
        if self._pending is None:
            return (False,) * len(flags)
        (sums, work), self._pending = self._pending, None
        work.wait()
        return tuple(bool(value) for value in sums.tolist())

    def tell(self, *flags: bool) -> None:
        """Tell the others what is raised here now, for them to read in the next turn."""
        if self.group is None:
            return
        assert self._pending is None, "read what was told before"
        sums = torch.tensor(flags, dtype=torch.int32)
        work = dist.all_reduce(sums, group=self.group, async_op=True)
        assert work is not None
        self._pending = sums, work
