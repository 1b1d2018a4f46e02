"""Hosts made of network namespaces, with a switch between them."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

SWITCH = "10.77.0.100"


def ip(*words: str) -> bool:
    """Run ``ip``; return whether it went well."""
    try:
        return not subprocess.run(["ip", *words], capture_output=True, check=False).returncode
    except FileNotFoundError:
        return False


@dataclass(frozen=True)
class Hosts:
    """Hosts, the wires to their switch, and the switch, on which programs may run as well."""

    names: tuple[str, ...]
    folder: Path
    started: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    @property
    def switch(self) -> str:
        return self.names[-1]

    def start(
        self, host: int, *command: str, env: Mapping[str, str] | None = None
    ) -> "subprocess.Popen[bytes]":
        """Start a command on a host (-1: on the switch); what it says goes to ``host-N``."""
        enter = ["ip", "netns", "exec", self.names[host], "unshare", "--uts", "sh", "-c"]
        name = "switch" if host == -1 else f"node-{'abc'[host]}"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
        with (self.folder / f"host-{host}").open("ab") as log:
            process = subprocess.Popen(
                [*enter, f'hostname {name} && exec "$@"', "sh", *command],
                stdout=log, stderr=log, env=environment, start_new_session=True,
            )  # fmt: skip
        self.started.append(process)
        return process

    def cut(self, host: int) -> None:
        """Pull the plug."""
        assert ip("-n", self.names[host], "link", "set", f"wire{host}", "down")

    def mend(self, host: int) -> None:
        """Put it in again."""
        assert ip("-n", self.names[host], "link", "set", f"wire{host}", "up")

    def kill(self, host: int) -> None:
        """Kill whatever runs on a host, all at once."""
        for pid in self.pids(host):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def pids(self, host: int) -> list[int]:
        """Return the processes on a host."""
        command = ["ip", "netns", "pids", self.names[host]]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return [int(pid) for pid in done.stdout.split()]

    def said(self, host: int) -> str:
        path = self.folder / f"host-{host}"
        return path.read_text() if path.exists() else ""

    def wait_until(self, condition: Callable[[], object], limit_s: float) -> None:
        """Wait until a condition holds."""
        end = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < end, "\n".join(map(self.said, range(-1, len(self.names) - 1)))
            time.sleep(0.05)


@contextmanager
def open_hosts(count: int, folder: Path) -> Iterator[Hosts | None]:
    """Yield so many hosts, 10.77.0.1 and on; ``None`` where this machine cannot make them."""
    names = tuple(f"rsdl-{os.getpid()}-{name}" for name in (*"abc"[:count], "switch"))
    switch = names[-1]
    made = all([ip("netns", "add", name) for name in names])
    made = made and ip("-n", switch, "link", "add", "switch", "type", "bridge")
    made = made and ip("-n", switch, "addr", "add", f"{SWITCH}/24", "dev", "switch")
    for host, name in enumerate(names[:-1]):
        made = made and ip(
            "link", "add", f"wire{host}", "netns", name, "type", "veth",
            "peer", "name", f"port{host}", "netns", switch,
        )  # fmt: skip
        made = made and ip("-n", switch, "link", "set", f"port{host}", "master", "switch", "up")
        made = made and ip(
            "-n", name, "addr", "add", f"10.77.0.{host + 1}/24", "dev", f"wire{host}"
        )
        made = made and ip("-n", name, "link", "set", f"wire{host}", "up")
        made = made and ip("-n", name, "link", "set", "lo", "up")
    made = made and ip("-n", switch, "link", "set", "switch", "up")
    made = made and ip("-n", switch, "link", "set", "lo", "up")
    hosts = Hosts(names, folder)
    try:
        yield hosts if made else None
    finally:
        if made:
            for host in range(-1, count):
                hosts.kill(host)
            for process in hosts.started:
                process.wait()
        for name in names:
            ip("netns", "delete", name)
