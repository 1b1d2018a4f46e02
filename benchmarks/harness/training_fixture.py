"""A real training session to measure in: everything that ``rsdl train`` opens, in this process."""

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from rsdl.commands.build import ExistingRun, Session, open_session
from rsdl.commands.ranks import find_ranks
from rsdl.config.run import RunConfig
from rsdl.models.catalog import ARCHITECTURES
from rsdl.storage.connect import connect
from rsdl.train.checkpoint_callback import CheckpointCallback
from rsdl.train.run_folder import RunFolder
from rsdl.train.signals import StopRequest
from rsdl.train.trainer import fit_to_ranks


def add_session_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of benchmarks that train each of the nine networks on JPEGs."""
    add = parser.add_argument
    add("--models", nargs="+", default=list(ARCHITECTURES), help="networks (the nine)")
    add("--image-size", type=int, default=224, help="px that the network sees (%(default)s)")
    add("--tile-size", type=int, default=400, help="px of the JPEGs (%(default)s)")
    add("--batch-size", type=int, help="images of training (on a GPU 64, else 4)")
    add("--accelerator", default="auto", choices=("auto", "cpu", "gpu"), help="(%(default)s)")
    add("--work", type=Path, help="folder for data (default: a temporary one)")


def trains_on_gpu(options: argparse.Namespace) -> bool:
    """Return whether what was asked for is trained on a GPU."""
    return options.accelerator != "cpu" and torch.cuda.is_available()


@contextmanager
def open_bench_session(config: RunConfig, *, checkpoints: bool = True) -> Iterator[Session]:
    """Open a session whose folder goes with it.

    Args:
        config: What is trained.
        checkpoints: Whether ``last.ckpt`` is written after each epoch; of a large network and short
            epochs it would take longer than what is measured.
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


@dataclass(frozen=True, slots=True)
class Spent:
    """What an epoch took.

    Attributes:
        seconds: Time that passed.
        cpu_s: Processor time of this process.
    """

    seconds: float
    cpu_s: float


class Clock:
    """Tells what has passed since it was started; a GPU has done its work by then."""

    def __init__(self) -> None:
        self._begin = self._now()

    def read(self) -> Spent:
        """Return what was spent."""
        now = self._now()
        return Spent(now[0] - self._begin[0], now[1] - self._begin[1])

    @staticmethod
    def _now() -> tuple[float, float]:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()
