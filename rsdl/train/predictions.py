"""Predictions of all samples of an evaluation, for reports."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from rsdl.distributed.rank import world_size

NAMES = (
    "samples", "targets", "predicted", "confidence", "runner_up", "runner_up_probability",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Predictions:
    """Columns over the valid samples, ``[N]`` each, in the order of the index.

    Attributes:
        samples: Sample numbers.
        targets: True classes.
        predicted: Most probable classes.
        confidence: Their probabilities.
        runner_up: Second most probable classes.
        runner_up_probability: Their probabilities.
    """

    samples: NDArray[Any]
    targets: NDArray[Any]
    predicted: NDArray[Any]
    confidence: NDArray[Any]
    runner_up: NDArray[Any]
    runner_up_probability: NDArray[Any]

    def worst_mistakes(self, count: int) -> NDArray[np.int64]:
        """Return the row numbers of wrong predictions, the most confident first."""
        wrong = np.flatnonzero(self.predicted != self.targets)
        return wrong[np.argsort(-self.confidence[wrong], kind="stable")][:count]

    def least_certain(self, count: int) -> NDArray[np.int64]:
        """Return the row numbers with the smallest margin to the runner-up, smallest first."""
        margin = self.confidence - self.runner_up_probability
        return np.argsort(margin, kind="stable")[:count]


class PredictionCollector(pl.Callback):
    """Gathers what the evaluation steps return."""

    def __init__(self) -> None:
        self._parts: list[dict[str, Tensor]] = []

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        *args: Any,  # noqa: ANN401
    ) -> None:
        """Copy a batch's rows to the host; 40 bytes each."""
        # Do not wait for the copy: the device would idle until the next batch is launched.
        part = {name: value.to("cpu", non_blocking=True) for name, value in outputs.items()}
        self._parts.append(part)

    def collect(self) -> Predictions:
        """Return the valid rows of all ranks; a collective that every rank must call."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # copies may still be in flight
        columns = {
            name: np.concatenate([part[name][part["valid"]].numpy() for part in self._parts])
            for name in NAMES
        }
        if world_size() > 1:
            every: list[dict[str, NDArray[Any]] | None] = [None] * world_size()
            dist.all_gather_object(every, columns)
            parts = [part for part in every if part is not None]
            columns = {name: np.concatenate([part[name] for part in parts]) for name in NAMES}
        order = np.argsort(columns["samples"], kind="stable")
        return Predictions(**{name: columns[name][order] for name in NAMES})
