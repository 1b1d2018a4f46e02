"""Worker processes: each peer runs in its own, with the Python that has it installed.

A worker is idle while the others are measured. Besides wall time, the CPU time of the process and
all its children is read, which other load on the machine disturbs far less.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

from benchmarks.harness.measure import Row, interleave
from benchmarks.harness.task import Task

ROOT = Path(__file__).parents[2]
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Peer:
    """A loader or packer to compare.

    Attributes:
        module: Has ``build(task, **arguments)``, which does one-time conversions and returns a
            :class:`benchmarks.harness.task.Workload`.
        packages: Distributions whose versions are recorded.
        install: How to install it.
        docs: The page that its set-up follows.
        arguments: Further arguments of ``build``.
        ours: Whether it is rsdl or uses its decoder, and so runs in its environment.
    """

    module: str
    packages: tuple[str, ...]
    docs: str
    install: str = 'pip install "rsdl-train[bench]"'
    arguments: Mapping[str, Any] = field(default_factory=dict)
    ours: bool = False


def our_peer(module: str, docs: str = "README.md", **arguments: bool) -> Peer:
    """Return a peer that runs in rsdl's environment."""
    packages = ("rsdl-train", "simplejpeg", "opencv-python-headless", "rasterio")
    return Peer(module, packages, docs, 'pip install -e ".[bench]"', arguments, ours=True)


class AbsentError(Exception):
    """A peer cannot take part; the message gives the reason and a remedy."""


class WorkerProcess:
    """The process of one peer.

    Args:
        name: Name in tables.
        peer: The peer.
        python: The Python to run it with.
        task: The task; output of the library goes to a log in its ``work`` folder.

    Raises:
        AbsentError: If the Python cannot be run.
    """

    def __init__(self, name: str, peer: Peer, python: str, task: Task) -> None:
        self.name, self.note = name, ""
        self.cpu_ms: list[float] = []  # per image, of each turn
        self._peer = peer
        words = re.sub(r"[^a-z]+", "-", name.lower())
        self._log = Path(task.work) / f"{words}-{task.delivery}-{task.workers}.log"
        command = [python, "-m", "benchmarks.harness.serve"]
        try:
            with self._log.open("w") as stream:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stream,
                    text=True, cwd=ROOT, start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            raise AbsentError(f"failed: {python} cannot be run: {error.strerror}") from error
        request = {"module": peer.module, "arguments": dict(peer.arguments)}
        self._send(json.dumps(request | {"packages": peer.packages, "task": task.to_json()}))

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Kill the process and its children, which form their own session."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, 9)
        self._process.communicate()

    def await_ready(self) -> dict[str, str]:
        """Wait until it has prepared its copy of the images; return the versions of its packages.

        Raises:
            AbsentError: If it is not installed, or fails.
        """
        ready = self._receive()
        self.note = ready["note"]
        return dict(ready["versions"])

    def run_turn(self, seconds: float) -> float:
        """Run whole epochs for at least ``seconds``; return images per second.

        Raises:
            AbsentError: If it fails.
        """
        before = cpu_seconds(self.pid)
        self._send(str(seconds))
        answer = self._receive()
        self.cpu_ms.append(1e3 * (cpu_seconds(self.pid) - before) / max(answer["images"], 1))
        return float(answer["images"] / answer["seconds"])

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has exited: the next read reports that
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        answer = json.loads(self._process.stdout.readline() or '{"failed": "died"}')
        if "missing" in answer:
            missing = f"not installed (no module {answer['missing']})"
            raise AbsentError(f"{missing}: {self._peer.install}")
        if "failed" in answer:
            raise AbsentError(f"failed: {answer['failed']}; see {self._log.name}")
        return dict(answer)


def add_peer_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of benchmarks whose peers run in worker processes."""
    add = parser.add_argument
    add("--python", action="append", default=[], metavar="[NAME=]PATH",
        help="the Python that has the peers, or the one called NAME; once for each")  # fmt: skip
    add("--work", type=Path, help="folder for what is made once (default: a temporary one)")


def measure_peers(
    peers: Mapping[str, Peer],
    task: Task,
    options: argparse.Namespace,
    make_row: Callable[[WorkerProcess, list[float]], Row],
    *,
    seconds: float = 0.0,
) -> tuple[list[Row], dict[str, str]]:
    """Interleave peers at one task; return their rows, and the versions of all that took part.

    Why a peer does not take part is printed at once, and stands in its row.

    Args:
        peers: The peers, in the order of the table.
        task: The task.
        options: With ``python`` and ``rounds``.
        make_row: Makes a row of a worker and its images per second, while the worker still lives.
        seconds: What a turn takes at least.
    """
    absent: dict[str, str] = {}
    versions: dict[str, str] = {}
    started: dict[str, WorkerProcess] = {}
    workers: dict[str, WorkerProcess] = {}
    with ExitStack() as stack:
        for name, peer in peers.items():
            with note_absence(name, absent):
                worker = WorkerProcess(name, peer, find_python(name, peer, options.python), task)
                started[name] = stack.enter_context(worker)
        for name, worker in started.items():  # all prepare at the same time
            with note_absence(name, absent):
                versions |= worker.await_ready()
                workers[name] = worker
        runs = {name: partial(worker.run_turn, seconds) for name, worker in workers.items()}
        values = interleave(runs, rounds=options.rounds)
        rows = [
            make_row(workers[name], values[name])
            if name in workers
            else Row(name, note=absent[name])
            for name in peers
        ]
    return rows, versions


@contextmanager
def note_absence(name: str, absent: dict[str, str]) -> Iterator[None]:
    """Record, and print at once, why a peer does not take part."""
    try:
        yield
    except AbsentError as error:
        absent[name] = str(error)
        print(f"{name}: {error}", file=sys.stderr)


def find_python(name: str, peer: Peer, choices: Sequence[str]) -> str:
    """Return the Python for a peer: its own, the one for all peers, or this one."""
    named = dict(choice.split("=", 1) for choice in choices if "=" in choice)
    general = [choice for choice in choices if "=" not in choice]
    if name in named:
        return named[name]
    return sys.executable if peer.ours or not general else general[-1]


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and all its live descendants, in seconds."""
    ticks = 0
    for process in [pid, *descendants(pid)]:
        with suppress(OSError):  # it has ended meanwhile
            after_name = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            # User and system time of the process and of its ended children: fields 14 to 17.
            ticks += sum(int(field) for field in after_name[11:15])
    return ticks / TICKS_PER_S


def peak_megabytes(pid: int) -> float:
    """Return the sum of the peak resident sets of a process and its live descendants."""
    total = 0
    for process in [pid, *descendants(pid)]:
        with suppress(OSError):  # it has ended meanwhile
            status = Path(f"/proc/{process}/status").read_text()
            found = re.search(r"VmHWM:\s+(\d+) kB", status)
            total += int(found[1]) if found else 0
    return total * 1024 / 1e6


def descendants(pid: int) -> list[int]:
    """Return the live descendants of a process."""
    found: list[int] = []
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    return found
