"""What the metrics of all tasks are built on: sums over valid samples of all ranks."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric


class SumMetric(Metric):
    """Named sums, from which every metric is computed once, in double precision."""

    full_state_update = False

    def add_sum(self, name: str, *shape: int, dtype: torch.dtype) -> None:
        """Add a sum, which starts at zero."""
        self.add_state(name, torch.zeros(shape, dtype=dtype), dist_reduce_fx="sum")

    def compute(self) -> dict[str, Tensor]:
        """Return the sums over all ranks."""
        return {name: getattr(self, name) for name in self._defaults}

    def sums(self) -> dict[str, NDArray[Any]]:
        """Return the sums over all ranks; a collective that every rank must call."""
        return {name: value.cpu().numpy() for name, value in self.compute().items()}
