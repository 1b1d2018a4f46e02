"""A real training session to measure in: everything that ``rsdl train`` opens, in this process."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from rich.console import Console

from rsdl.commands.ranks import find_ranks
from rsdl.commands.session import Begun, Session, open_session
from rsdl.config.run import RunConfig
from rsdl.storage.connect import connect
from rsdl.train.checkpointer import Checkpointer
from rsdl.train.preempt import StopRequest
from rsdl.train.record import RunFolder
from rsdl.train.trainer import fit_to_place


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
        fitted = fit_to_place(config.trainer, None)
        config = config.model_copy(update={"trainer": fitted})
        ranks = find_ranks(fitted, StopRequest())
        session = open_session(config, folder, Begun(), ranks, Console(quiet=True))
        if not checkpoints:
            session.trainer.callbacks[:] = [  # type: ignore[attr-defined]
                part
                for part in session.trainer.callbacks  # type: ignore[attr-defined]
                if not isinstance(part, Checkpointer)
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
