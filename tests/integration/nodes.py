"""The nodes of one elastic run on hosts, and what they have trained on."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.integration.hosts import SWITCH, Hosts

PORT, RUN_ID = 29631, "nodes"
LIMIT_S = 120
TRACE = Path(__file__).with_name("batch_trace")


class Nodes:
    """Starts the nodes of one run on hosts, and tells what they have trained on."""

    def __init__(self, hosts: Hosts, config: Path, nnodes: str, pause_s: float = 0.05) -> None:
        self.hosts, self.config, self.nnodes = hosts, config, nnodes
        self.trace = hosts.folder / "trace"
        self.trace.mkdir()
        self.env = {
            "PYTHONPATH": f"{TRACE}:{os.environ.get('PYTHONPATH', '')}",
            "RSDL_TRACE": str(self.trace),
            "RSDL_TRACE_PAUSE": str(pause_s),
        }

    def serve(self) -> "subprocess.Popen[bytes]":
        """Start the rendezvous on the switch."""
        words = ("rendezvous", f"--port={PORT}", f"--rdzv-id={RUN_ID}")
        return self.hosts.start(-1, sys.executable, "-m", "rsdl", *words)

    def start(self, host: int, *fields: str) -> "subprocess.Popen[bytes]":
        """Start the node of a host."""
        words = (
            "train", str(self.config), f"--nnodes={self.nnodes}",
            f"--rdzv-endpoint={SWITCH}:{PORT}", f"--rdzv-id={RUN_ID}", *fields,
        )  # fmt: skip
        return self.hosts.start(host, sys.executable, "-m", "rsdl", *words, env=self.env)

    def lines(self) -> list[tuple[int, int, int, int, list[int]]]:
        """Return attempt, rank, world size, step and samples of each batch that was begun.

        Attempts are counted from 1 in the order of their first batch.
        """
        numbers: dict[str, int] = {}
        found = []
        for path in sorted(self.trace.iterdir()):
            for line in path.read_text().splitlines():
                attempt, *rest = json.loads(line)
                found.append((numbers.setdefault(attempt, len(numbers) + 1), *rest))
        return found

    def wait_for_world(self, size: int, *, after: int = 0, steps: int = 3) -> int:
        """Wait for steps of an attempt later than ``after`` with so many ranks; return it."""
        done: list[int] = []

        def trains() -> bool:
            made: dict[int, set[int]] = {}
            for attempt, _, world_size, step, _ in self.lines():
                if world_size == size and attempt > after:
                    made.setdefault(attempt, set()).add(step)
            done[:] = [attempt for attempt, known in made.items() if len(known) > steps]
            return bool(done)

        self.hosts.wait_until(trains, LIMIT_S)
        return max(done)
