"""What an evaluation keeps of each sample, gathered over batches and ranks."""

from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from rsdl.distributed.rank import world_size
from rsdl.tasks.base import Columns


class PredictionCollector:
    """Collects columns of the valid samples of a split."""

    def __init__(self) -> None:
        self._parts: list[tuple[dict[str, Tensor], Tensor]] = []

    def add(self, columns: dict[str, Tensor], valid: Tensor) -> None:
        """Copy a batch's columns to the host.

        Args:
            columns: ``[B, ...]`` each; ``samples`` holds the numbers of the samples.
            valid: Which rows count, ``[B]`` bool.
        """
        # Do not wait for the copy: the device would idle until the next batch is launched.
        part = {name: value.to("cpu", non_blocking=True) for name, value in columns.items()}
        self._parts.append((part, valid.to("cpu", non_blocking=True)))

    def collect(self) -> Columns:
        """Return the valid rows of all ranks by sample; a collective that every rank must call."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # copies may still be in flight
        names = self._parts[0][0]
        columns = {
            name: np.concatenate([part[name][valid].numpy() for part, valid in self._parts])
            for name in names
        }
        if world_size() > 1:
            every: list[dict[str, NDArray[Any]] | None] = [None] * world_size()
            dist.all_gather_object(every, columns)
            parts = [part for part in every if part is not None]
            columns = {name: np.concatenate([part[name] for part in parts]) for name in names}
        order = np.argsort(columns["samples"], kind="stable")
        return {name: column[order] for name, column in columns.items()}
