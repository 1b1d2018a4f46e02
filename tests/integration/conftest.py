"""Commands of ``rsdl`` as real processes, and what a run has left behind."""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from rsdl.storage.local import LocalStore
from rsdl.train.checkpoint import read_checkpoint

FORK_SERVER = Path(__file__).with_name("fork_server.py")
RANK_LAUNCHER = Path(__file__).with_name("rank_launcher.py")
TIMED = {"time_s", "images_per_s", "data_wait_pct"}

# What was read to get at the same pixels: shards, or pixels that an earlier epoch has kept.
COSTS = ".rsdl.tally.encoded_bytes:"


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    returncode: int
    stdout: str
    stderr: str


def refusal(ended: Ended, code: int = 2) -> str:
    """Check that a command refused with one line and without a traceback; return the line."""
    assert ended.returncode == code, ended
    lines = [line for line in ended.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, lines
    assert "Traceback" not in ended.stderr
    return str(lines[0])


class Command:
    """A command that runs in a process of its own."""

    def __init__(self, server: "subprocess.Popen[str]", folder: Path) -> None:
        self._server = server
        self._folder = folder
        self._ended: Ended | None = None
        self.pid: int = self._hear()["pid"]

    def wait_for(self, condition: Callable[[], object], limit_s: float = 60) -> None:
        """Wait until a condition holds; the process must not have ended without it."""
        end, runs = time.monotonic() + limit_s, self.runs()
        while not condition():
            assert time.monotonic() < end, self.stderr
            # Asked before the condition was, which may be that it has ended.
            assert runs, f"ended before: {self.stderr}"
            time.sleep(0.002)
            runs = self.runs()

    def send(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, unless it has ended; nothing of it runs on."""
        if self._ended is None:
            with suppress(ProcessLookupError):
                self.send(signal.SIGKILL)

    def runs(self) -> bool:
        """Return whether it has not ended."""
        return self._state() not in "ZX"

    def wait(self) -> Ended:
        """Wait for the end."""
        if self._ended is None:
            code = self._hear()["returncode"]
            self._ended = Ended(code, self.stdout, self.stderr)
        return self._ended

    @property
    def stdout(self) -> str:
        return (self._folder / "stdout").read_text()

    @property
    def stderr(self) -> str:
        return (self._folder / "stderr").read_text()

    def _hear(self) -> dict[str, int]:
        assert self._server.stdout is not None
        line: dict[str, int] = json.loads(self._server.stdout.readline())
        return line

    def _state(self) -> str:
        """Return the process's state as Linux has it; X for none."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        # No such file, or no such process between the opening and the reading.
        except (FileNotFoundError, ProcessLookupError):
            return "X"


class Rsdl:
    """Starts commands."""

    def __init__(self, server: "subprocess.Popen[str]", folder: Path) -> None:
        self._server = server
        self._folder = folder
        self._last: Command | None = None

    def start(
        self,
        *arguments: object,
        die: int | None = None,
        tell: tuple[str, int, Path] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Command:
        """Start ``rsdl ARGUMENTS`` in the test's own folder; see the fork server for the rest."""
        assert self._server.stdin is not None
        for name in ("stdout", "stderr"):
            (self._folder / name).write_text("")
        request = {
            "arguments": [str(argument) for argument in arguments],
            "cwd": str(self._folder),
            "env": {"RSDL_CACHE": self._cache(), **(env or {})},
            "stdout": str(self._folder / "stdout"),
            "stderr": str(self._folder / "stderr"),
            "die": die,
            "tell": tell and (*tell[:2], str(tell[2])),
        }
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        self._last = Command(self._server, self._folder)
        return self._last

    def end(self) -> None:
        """End what a test that failed has left: the fork server serves one command at a time."""
        if self._last is not None:
            self._last.kill()
            self._last.wait()

    def __call__(
        self, *arguments: object, die: int | None = None, env: Mapping[str, str] | None = None
    ) -> Ended:
        """Run ``rsdl ARGUMENTS`` to its end."""
        return self.start(*arguments, die=die, env=env).wait()

    def train_through_deaths(
        self, config: Path, moments: random.Random, reach: tuple[int, int], *, limit: int = 100
    ) -> int:
        """Train anew, killed again and again, until a start comes to its end; count the deaths.

        Args:
            config: Of the run; also over what one before has left.
            moments: Draws the system call that each start dies at.
            reach: First and last of those calls.
            limit: So many deaths mean that there is no progress.
        """
        deaths, begin = 0, ["train", config, "--restart"]
        while (ended := self(*begin, die=moments.randint(*reach))).returncode:
            assert ended.returncode == -signal.SIGKILL, ended.stderr
            begin = ["train", config]
            deaths += 1
            assert deaths < limit, "no progress"
        return deaths

    def _cache(self) -> str:
        """Return the test's cache; fixtures that outlive a test have one of their own."""
        return os.environ.get("RSDL_CACHE", str(self._folder / "cache"))


@contextmanager
def open_fork_server(script: Path = FORK_SERVER) -> Iterator["subprocess.Popen[str]"]:
    """Run a process that forks commands, as a script of ours does."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    server = subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert server.stdin is not None and server.stdout is not None
    assert server.stdout.readline(), "it ended before it was ready"
    try:
        yield server
    finally:
        server.stdin.close()
        server.wait()
        server.stdout.close()


@pytest.fixture(scope="session")
def fork_server() -> Iterator["subprocess.Popen[str]"]:
    """Return the process that forks commands."""
    with open_fork_server() as server:
        yield server


@pytest.fixture(scope="session")
def other_fork_server() -> Iterator["subprocess.Popen[str]"]:
    """Return another, for tests that run two commands at once."""
    with open_fork_server() as server:
        yield server


@pytest.fixture
def rsdl(fork_server: "subprocess.Popen[str]", tmp_path: Path) -> Iterator[Rsdl]:
    """Return what runs commands, one at a time."""
    starter = Rsdl(fork_server, tmp_path)
    yield starter
    starter.end()


@dataclass(frozen=True)
class Fault:
    """What becomes of one rank: it is sent a signal (kill, stop, term), or raises.

    In the stage "saving" the step is the number of shard files that the rank has written, from 0.
    """

    what: str
    rank: int
    step: int
    stage: str = "training"


@dataclass(frozen=True)
class Ranks:
    """Runs ``rsdl`` as several ranks, to the end of all."""

    server: "subprocess.Popen[str]"
    folder: Path

    def __call__(
        self,
        num_ranks: int,
        *arguments: object,
        fault: Fault | None = None,
        world_size: int | None = None,
        limit_s: float = 900,
        env: Mapping[str, str] | None = None,
    ) -> list[int | None]:
        """Return the exit codes of the first ranks of a world, by default of all.

        ``None`` where a rank was stopped, or did not end in time.
        """
        assert self.server.stdin is not None and self.server.stdout is not None
        request = {
            "num_ranks": num_ranks,
            "world_size": world_size or num_ranks,
            "arguments": [str(argument) for argument in arguments],
            "cwd": str(self.folder),
            "env": {"RSDL_CACHE": os.environ["RSDL_CACHE"], **(env or {})},
            "fault": None if fault is None else asdict(fault),
            "limit_s": limit_s,
        }
        self.server.stdin.write(json.dumps(request) + "\n")
        self.server.stdin.flush()
        codes: list[int | None] = json.loads(self.server.stdout.readline())
        return codes

    def said(self, rank: int) -> str:
        return (self.folder / f"rank-{rank}.err").read_text()

    def batches(self, world_size: int) -> dict[int, list[int]]:
        """Return the samples that counted in each optimizer step, over all ranks, sorted."""
        steps: dict[int, list[int]] = {}
        for rank in range(world_size):
            for line in (self.folder / f"rank-{rank}.trace").read_text().splitlines():
                step, samples = json.loads(line)
                steps.setdefault(step, []).extend(samples)
        return {step: sorted(steps[step]) for step in sorted(steps)}


@pytest.fixture(scope="session")
def rank_launcher() -> Iterator["subprocess.Popen[str]"]:
    """Return the process that forks ranks."""
    with open_fork_server(RANK_LAUNCHER) as server:
        yield server


@pytest.fixture
def ranks(rank_launcher: "subprocess.Popen[str]", tmp_path: Path) -> Ranks:
    """Return what runs a command as several ranks."""
    return Ranks(rank_launcher, tmp_path)


@pytest.fixture(scope="session")
def fault() -> type[Fault]:
    """Return :class:`Fault`."""
    return Fault


@pytest.fixture
def masks(rsdl: Rsdl, tmp_path: Path) -> str:
    """Return the URL of tiles of generated scenes with a mask each."""
    assert rsdl("data", "scenes", "scenes", "--num-scenes", 6, "--size", 256).returncode == 0
    packed = rsdl(
        "data", "pack", "geotiff", "scenes", "--labels", "scenes/labels.geojson", "--tile", 64,
        "--split-by", "scene", "--task", "segmentation", "--out", "masks",
    )  # fmt: skip
    assert packed.returncode == 0, packed
    return str(tmp_path / "masks")


@pytest.fixture
def write_config(packed: str, tmp_path: Path) -> "Write":
    """Return what writes ``NAME.yaml`` for a tiny run on ``packed``, with fields by dotted path."""

    def write(name: str, **fields: object) -> Path:
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(tiny_run(packed, str(tmp_path / "runs"), fields)))
        return path

    return write


def tiny_run(url: str, output: str, fields: Mapping[str, object]) -> dict[str, Any]:
    """Return the config of a run of seconds, with fields by path, as in ``data__window``."""
    tree: dict[str, Any] = {
        "output": output,
        "data": {"url": url, "image_size": 32, "batch_size": 4, "num_workers": 2},
        "model": {"name": "test_efficientnet"},
        "optim": {"warmup_epochs": 0.5, "lr": 2e-3},
        "trainer": {"accelerator": "cpu", "max_epochs": 3, "log_every_steps": 1},
    }
    for path, value in fields.items():
        room, _, field = path.partition("__")
        if field:
            tree.setdefault(room, {})[field] = value
        else:
            tree[room] = value
    return tree


@dataclass(frozen=True)
class Run:
    """What a run has left behind."""

    folder: Path

    @property
    def record(self) -> dict[str, Any]:
        record: dict[str, Any] = json.loads((self.folder / "run.json").read_text())
        return record

    @property
    def rows(self) -> list[dict[str, str]]:
        """Rows of ``metrics.csv`` without the columns that tell the time."""
        with (self.folder / "metrics.csv").open() as stream:
            return [
                {key: value for key, value in row.items() if key not in TIMED}
                for row in csv.DictReader(stream)
            ]

    def load(self, name: str = "last") -> dict[str, Any]:
        """Return a checkpoint, of one file or of shards."""
        return read_checkpoint(LocalStore(self.folder), f"checkpoints/{name}.ckpt", optimizer=True)

    @property
    def names(self) -> list[str]:
        found = (p.relative_to(self.folder) for p in self.folder.rglob("*") if p.is_file())
        # Every process that trains here has a number of its own.
        return sorted(
            ".owner" if p.parent.name == ".owner" else p.as_posix().split(".tfevents")[0]
            for p in found
        )


Write = Callable[..., Path]
Find = Callable[[str], Run]
Compare = Callable[[Run, Run], None]


def differences(left: object, right: object, path: str = "") -> list[str]:
    """Return where two trees of tensors and values are not equal, bit by bit."""
    if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
        return [] if torch.equal(left, right) else [path]
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        if left.keys() != right.keys():
            return [f"{path} keys"]
        return [d for key in left for d in differences(left[key], right[key], f"{path}.{key}")]
    if isinstance(left, Sequence) and isinstance(right, Sequence) and not isinstance(left, str):
        if len(left) != len(right):
            return [f"{path} length"]
        pairs = zip(left, right, strict=True)
        return [d for at, pair in enumerate(pairs) for d in differences(*pair, f"{path}.{at}")]
    return [] if left == right else [f"{path}: {left} {right}"]


def assert_same_run(left: Run, right: Run) -> None:
    """Check that two runs ended with the same numbers, bit by bit."""
    for name in ("last", "best"):
        found = differences(left.load(name), right.load(name))
        assert [difference for difference in found if not difference.startswith(COSTS)] == []
    assert left.rows == right.rows
    for key in ("metrics", "ledger", "optimizer_steps", "epochs_completed", "status"):
        assert left.record[key] == right.record[key], key


@pytest.fixture(scope="session")
def compare_runs() -> Compare:
    """Return :func:`assert_same_run`."""
    return assert_same_run


@pytest.fixture
def browser(require: Callable[[str, bool], None]) -> str:
    """Return headless Chromium, or skip."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    require("chromium", path is not None)
    assert path is not None
    return path


@pytest.fixture
def run_at(tmp_path: Path) -> Find:
    """Return what finds the run of a name."""
    return lambda name: Run(tmp_path / "runs" / name)
