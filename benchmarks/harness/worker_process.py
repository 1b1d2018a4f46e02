"""Another process that takes part in a benchmark: started, told when it is its turn, measured.

Each loader lives in a process of its own, with the Python that has it, and does nothing while the
others have their turn. Beside the time that passes, the processor time of the process and all its
children is read, which a busy machine disturbs far less.
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
    """A contender cannot take part; the message says why and what helps."""


class Contender:
    """One loader's process.

    Args:
        name: Name in the catalog.
        python: The Python to run it with.
        task: What it has to do.
        log: File for what the library prints.

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
        """The process."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def await_ready(self) -> None:
        """Wait until it has made of the images what it needs, and is ready for its turns.

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
        """End the process and its children: they are a session of their own."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, 9)
        self._process.communicate()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # then it has left a last word, or is heard of no more
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
    """Return the processor time of a process and all its descendants that live, in seconds."""
    ticks = 0
    for process in [pid, *descendants(pid)]:
        with suppress(OSError):  # gone in the meantime
            after_name = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            # User and system time, its own and of children that have ended: fields 14 to 17.
            ticks += sum(int(field) for field in after_name[11:15])
    return ticks / TICKS_PER_S


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and theirs, as far as they live."""
    found: list[int] = []
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    return found
