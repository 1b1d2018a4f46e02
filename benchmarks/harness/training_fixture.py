"""A real training session for measurements, in this process, with all parts of ``rsdl train``."""

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from rsdl.config.run import RunConfig
from rsdl.core.batch import Batch
from rsdl.data.plan import SamplingPlan
from rsdl.models.catalog import ARCHITECTURES
from rsdl.storage.connect import connect
from rsdl.train.build import open_session
from rsdl.train.checkpoint_callback import CheckpointCallback
from rsdl.train.ranks import find_ranks
from rsdl.train.run_folder import ExistingRun, RunFolder
from rsdl.train.session import Session
from rsdl.train.signals import StopRequest
from rsdl.train.trainer import fit_to_ranks


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of benchmarks that train each of the nine networks on JPEGs."""
    add = parser.add_argument
    add("--models", nargs="+", default=list(ARCHITECTURES), help="networks (the nine)")
    add("--image-size", type=int, default=224, help="px that the network sees (%(default)s)")
    add("--tile-size", type=int, default=400, help="px of the JPEGs (%(default)s)")
    add("--batch-size", type=int, help="images of training (on a GPU 64, else 4)")
    add("--accelerator", default="auto", choices=("auto", "cpu", "gpu"), help="(%(default)s)")
    add("--work", type=Path, help="folder for data (default: a temporary one)")


def trains_on_gpu(options: argparse.Namespace) -> bool:
    """Return whether the options select training on a GPU."""
    return options.accelerator != "cpu" and torch.cuda.is_available()


@contextmanager
def open_training(config: RunConfig, *, checkpoints: bool = True) -> Iterator[Session]:
    """Open a session whose output folder is removed at the end.

    Args:
        config: The run to train.
        checkpoints: Whether to write ``last.ckpt`` after each epoch; for a large network and short
            epochs that would take longer than the measured part.
    """
    with tempfile.TemporaryDirectory() as output:
        folder = RunFolder(connect(output))
        fitted = fit_to_ranks(config.trainer, None)
        config = config.model_copy(update={"trainer": fitted})
        ranks = find_ranks(fitted, StopRequest())
        session = open_session(config, folder, ExistingRun(), ranks, Console(quiet=True))
        if not checkpoints:
            session.trainer.callbacks[:] = [  # type: ignore[attr-defined]
                part
                for part in session.trainer.callbacks  # type: ignore[attr-defined]
                if not isinstance(part, CheckpointCallback)
            ]
        yield session


class HeldBatches:
    """Replaces a loader: the batches of an epoch, from device memory.

    Args:
        plan: Sampling plan of the batches.
        batches: The batches, on the device.
    """

    def __init__(self, plan: SamplingPlan, batches: Sequence[Batch]) -> None:
        self.plan = plan
        self.batches = batches
        self.start = 0
        self.waited_s = 0.0

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches."""
        return iter(self.batches)


@dataclass(frozen=True, slots=True)
class EpochTime:
    """Time of an epoch.

    Attributes:
        seconds: Wall time.
        cpu_s: CPU time of this process.
    """

    seconds: float
    cpu_s: float


class Clock:
    """Measures the time since its start; waits for the GPU to finish first."""

    def __init__(self) -> None:
        self._begin = self._now()

    def read(self) -> EpochTime:
        """Return the time since the start."""
        now = self._now()
        return EpochTime(now[0] - self._begin[0], now[1] - self._begin[1])

    @staticmethod
    def _now() -> tuple[float, float]:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()
