"""Start-up time: of the command line, and of a training up to its first step."""

import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks.harness.measure import Aim, Row, Table, take_turns
from benchmarks.harness.worker_process import ROOT
from benchmarks.trainer.first_step import MODEL
from benchmarks.trainer.resume import FirstStep, write_config

HELP_S, FIRST_STEP_S = 0.5, 6.0
IMPORTS = "import torch, pytorch_lightning, timm"


def measure_start(url: str, work: Path, rounds: int) -> list[Table]:
    """Return the tables of start-up: the help, and a training up to its first step."""
    config = write_config(url, work / "runs")
    python = [sys.executable, "-c"]
    helps = {
        "Python alone": Timed(lambda: run_quietly([*python, "pass"])),
        "rsdl --help": Timed(lambda: run_quietly([sys.executable, "-m", "rsdl", "--help"])),
    }
    first = FirstStep(["rsdl", str(config)])
    starts = {
        f'python -c "{IMPORTS}"': Timed(lambda: run_quietly([*python, IMPORTS])),
        "rsdl train, to its first step": Timed(
            first, partial(shutil.rmtree, work / "runs" / "resume", ignore_errors=True)
        ),
    }
    return [
        start_table("Start of the command line", helps, HELP_S, rounds),
        start_table(
            f"Start of a training ({MODEL}, packed data set)", starts, FIRST_STEP_S, rounds
        ),
    ]


def start_table(title: str, contenders: Mapping[str, "Timed"], bound: float, rounds: int) -> Table:
    """Return a table of seconds; the last contender is ours, and has to meet the bound."""
    figures = take_turns(contenders, rounds=rounds)
    rows = [
        # Without the warm-up round.
        Row(name, values, facts={"CPU s": statistics.median(contenders[name].cpu_s[1:])})
        for name, values in figures.items()
    ]
    ours = rows[-1]
    aim = Aim(f"{ours.name}: seconds", statistics.median(ours.values), bound, at_least=False)
    return Table(title, "s", rows[0].name, rows, [aim])


class Timed:
    """Times a function that runs a child process, and records the child's CPU time.

    Args:
        work: Runs the child process.
        prepare: Called before each run, untimed.
    """

    def __init__(
        self, work: Callable[[], object], prepare: Callable[[], object] = lambda: None
    ) -> None:
        self._work = work
        self._prepare = prepare
        self.cpu_s: list[float] = []

    def __call__(self) -> float:
        """Return seconds."""
        self._prepare()
        before, begin = children_cpu_s(), time.perf_counter()
        self._work()
        seconds = time.perf_counter() - begin
        self.cpu_s.append(children_cpu_s() - before)
        return seconds


def children_cpu_s() -> float:
    """Return the CPU time of ended children."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run_quietly(command: Sequence[str]) -> None:
    """Run a command without output; raise if it fails."""
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
