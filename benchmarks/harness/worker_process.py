"""A worker process of a benchmark: started, told when its turn is, and measured.

Each loader runs in its own process, with the Python that has it installed, and is idle while the
others have their turn. Besides wall time, the CPU time of the process and all its children is
read, which other load on the machine disturbs far less.
"""

import json
import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from benchmarks.peers.catalog import ALL
from benchmarks.peers.task import Task

ROOT = Path(__file__).parents[2]
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class AbsentError(Exception):
    """A contender cannot take part; the message gives the reason and a remedy."""


class Contender:
    """One loader's process.

    Args:
        name: Name in the catalog.
        python: The Python to run it with.
        task: The task.
        log: File for the library's output.
    """

    def __init__(self, name: str, python: str, task: Task, log: Path) -> None:
        self.name = name
        self.cpu_ms: list[float] = []
        self._log = log
        command = [python, "-m", "benchmarks.peers.serve", name]
        try:
            with log.open("w") as stream:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stream,
                    text=True, cwd=ROOT, start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            raise AbsentError(f"failed: {python} cannot be run: {error.strerror}") from error
        self.note = ""
        self.versions: dict[str, str] = {}
        self._tell(task.to_json())

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def await_ready(self) -> None:
        """Wait until it has prepared its copy of the images and is ready for its turns.

        Raises:
            AbsentError: If it is not installed, or fails.
        """
        ready = self._hear()
        self.note = ready["note"]
        self.versions = ready["versions"]

    def run_turn(self, seconds: float) -> float:
        """Load whole epochs for at least ``seconds``; return images per second.

        Raises:
            AbsentError: If it fails.
        """
        before = cpu_seconds(self._process.pid)
        self._tell(str(seconds))
        answer = self._hear()
        self.cpu_ms.append(
            1e3 * (cpu_seconds(self._process.pid) - before) / max(answer["images"], 1)
        )
        return float(answer["images"] / answer["seconds"])

    def close(self) -> None:
        """Kill the process and its children, which form their own session."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, 9)
        self._process.communicate()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has exited: the next read reports that
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        answer = json.loads(self._process.stdout.readline() or '{"failed": "died"}')
        if "missing" in answer:
            install = ALL[self.name].install
            raise AbsentError(f"not installed (no module {answer['missing']}): {install}")
        if "failed" in answer:
            raise AbsentError(f"failed: {answer['failed']}; see {self._log.name}")
        return dict(answer)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and all its live descendants, in seconds."""
    ticks = 0
    for process in [pid, *descendants(pid)]:
        with suppress(OSError):  # it has ended meanwhile
            after_name = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            # User and system time of the process and of its ended children: fields 14 to 17.
            ticks += sum(int(field) for field in after_name[11:15])
    return ticks / TICKS_PER_S


def descendants(pid: int) -> list[int]:
    """Return the live descendants of a process."""
    found: list[int] = []
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    return found
