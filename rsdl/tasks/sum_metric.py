"""What the metrics of all tasks are built on: sums over valid samples of all ranks."""

from typing import Any

import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.distributed import gather_all_tensors


class SumMetric(Metric):
    """Named sums, from which every metric is computed once, in double precision."""

    full_state_update = False

    def __init__(self) -> None:
        super().__init__(dist_sync_fn=collect)

    def add_sum(self, name: str, *shape: int, dtype: torch.dtype) -> None:
        """Add a sum, which starts at zero."""
        self.add_state(name, torch.zeros(shape, dtype=dtype), dist_reduce_fx="sum")

    def compute(self) -> dict[str, Tensor]:
        """Return the sums over all ranks."""
        return {name: getattr(self, name) for name in self._defaults}

    def sums(self) -> dict[str, NDArray[Any]]:
        """Return the sums over all ranks; a collective that every rank must call."""
        return {name: value.cpu().numpy() for name, value in self.compute().items()}

    def local_sums(self) -> dict[str, NDArray[Any]]:
        """Return the sums of this process alone, of what every rank has wholly."""
        return {name: getattr(self, name).cpu().numpy() for name in self._defaults}


def collect(value: Tensor, group: Any = None) -> list[Tensor]:  # noqa: ANN401 - of torch
    """Return what adds up to a sum over all ranks; a collective that every rank must call.

    Counts are added on the way, so that memory does not grow with the number of ranks. Numbers with
    a fraction are few: they are gathered and added in the order of ranks, to the same bits.
    """
    if value.is_floating_point():
        gathered: list[Tensor] = gather_all_tensors(value, group)
        return gathered
    total = value.clone()
    dist.all_reduce(total, group=group)
    return [total]
