"""The processes of one run, struck at a planned time and watched until all have ended."""

import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.plan import BEGINNINGS, Kill
from tests.integration.conftest import Command, Ended, Rsdl

# Seconds that a process gets to write where its threads are, and the file that keeps it.
STACKS_S = 3.0
STACKS = "stderr-of-the-hang"

# A launcher ends what is left of a crew when one of it has failed.
LAUNCHER_S = 15.0


class HangError(Exception):
    """A process that should have ended has not."""


@dataclass(frozen=True)
class Attempt:
    """What became of one attempt at a run.

    Attributes:
        killed: Whether a process was killed.
        ended: How each process ended, in the order of ranks.
    """

    killed: bool
    ended: list[Ended]

    @property
    def done(self) -> bool:
        """Whether the run is completed."""
        return all(ended.returncode == 0 for ended in self.ended)


class Processes:
    """Runs ``rsdl`` in as many processes as there are nurseries, as torchrun would.

    Args:
        fork_servers: One for each rank.
        folder: For what they say.
        env: Environment of the commands.
        patience_s: How long a process may take before it is said to hang.
    """

    def __init__(
        self,
        fork_servers: Sequence["subprocess.Popen[str]"],
        folder: Path,
        env: Mapping[str, str],
        patience_s: float,
    ) -> None:
        self._folders = [folder / f"rank-{rank}" for rank in range(len(fork_servers))]
        for path in self._folders:
            path.mkdir(parents=True, exist_ok=True)
        self._members = [Rsdl(*pair) for pair in zip(fork_servers, self._folders, strict=True)]
        self._env = env
        self._patience_s = patience_s

    def __len__(self) -> int:
        """Return the number of processes that train together."""
        return len(self._members)

    def run(self, *arguments: object, kill: Kill | None = None, whole_s: float = 0.0) -> Attempt:
        """Run a command, and strike once if told to.

        Args:
            arguments: Of ``rsdl``.
            kill: Whom to strike when.
            whole_s: Seconds that an undisturbed run takes.

        Raises:
            HangError: If a process does not end.
        """
        bell = self._folders[0] / "bell"
        bell.unlink(missing_ok=True)
        meeting = self._meeting()
        commands = [
            member.start(
                *arguments,
                # One alone is told nothing: half an environment is refused.
                env=self._env | (meeting and {**meeting, "RANK": str(at), "LOCAL_RANK": str(at)}),
                die=kill.call if kill and kill.phase == "call" and at in kill.ranks else None,
                tell=_find_point(kill, bell) if at == 0 else None,
            )
            for at, member in enumerate(self._members)
        ]
        watch = _Watch(commands, self._folders, self._patience_s)
        try:
            if kill is not None and kill.phase != "call":
                _strike(commands, kill, bell, whole_s)
            # Struck alone after they had met, the others have to notice by themselves.
            alone = kill is not None and len(kill.ranks) < len(commands)
            ended = _wait_for_all(commands, launched=not alone)
        finally:
            watch.close()
        if watch.hung:
            raise HangError(f"did not end in {self._patience_s:.0f} s: {watch.hung}/{STACKS}")
        return Attempt(any(one.returncode == -signal.SIGKILL for one in ended), ended)

    def _meeting(self) -> dict[str, str]:
        """Return what tells processes where to meet; nothing for a process alone."""
        size = len(self._members)
        if size == 1:
            return {}
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        return {
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size),
            "LOCAL_WORLD_SIZE": str(size), "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "chaos",
        }  # fmt: skip


class _Watch:
    """Makes processes that hang say where, and ends them."""

    def __init__(self, commands: list[Command], folders: list[Path], patience_s: float) -> None:
        self.hung: Path | None = None
        self._commands = commands
        self._folders = folders
        self._timer = threading.Timer(patience_s, self._end)
        self._timer.daemon = True
        self._timer.start()

    def close(self) -> None:
        self._timer.cancel()

    def _end(self) -> None:
        for command, folder in zip(self._commands, self._folders, strict=True):
            if command.runs():
                self.hung = folder
                command.send(signal.SIGUSR1)
        time.sleep(STACKS_S)
        for command, folder in zip(self._commands, self._folders, strict=True):
            shutil.copyfile(folder / "stderr", folder / STACKS)
            command.kill()


def _strike(commands: list[Command], kill: Kill, bell: Path, whole_s: float) -> None:
    """Wait for the planned time, or until all have ended, and kill."""
    if kill.phase in BEGINNINGS:
        while not bell.exists():
            if not all(command.runs() for command in commands):
                return
            time.sleep(0.001)
    end = time.monotonic() + (whole_s * kill.delay_s if kill.phase == "clock" else kill.delay_s)
    while time.monotonic() < end and all(command.runs() for command in commands):
        time.sleep(0.0005)
    for rank in kill.ranks:
        commands[rank].kill()


def _wait_for_all(commands: list[Command], *, launched: bool) -> list[Ended]:
    """Wait for all; with a launcher, what is left when one has failed is ended after a while."""
    with ThreadPoolExecutor(len(commands)) as pool:
        futures = [pool.submit(command.wait) for command in commands]
        if launched:
            for future in as_completed(futures):
                if future.result().returncode:
                    wait(futures, LAUNCHER_S)
                    for command in commands:
                        command.kill()
        return [future.result() for future in futures]


def _find_point(kill: Kill | None, bell: Path) -> tuple[str, int, Path] | None:
    """Return what makes the first process ring the bell, if the plan asks for it."""
    if kill is None or kill.phase not in BEGINNINGS:
        return None
    return BEGINNINGS[kill.phase], kill.call, bell
