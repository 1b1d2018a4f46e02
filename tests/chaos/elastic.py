"""``scripts/chaos elastic``: nodes are killed, stopped and started at random instants.

Each run has up to three hosts, made of network namespaces, and must end as if nothing had happened:
the same global batches at the same steps, a ledger that balances, the weights of a run that was
trained by the same sequence of world sizes without any trouble.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import yaml

from rsdl.data.packing.pack import PackOptions, pack
from rsdl.data.sources.folder import FolderSource
from rsdl.storage.connect import connect
from tests.chaos.leak_check import find_remains
from tests.conftest import draw_tree
from tests.integration.conftest import (
    RANK_LAUNCHER,
    Ranks,
    Run,
    differences,
    open_fork_server,
    tiny_run,
)
from tests.integration.hosts import open_hosts
from tests.integration.nodes import Nodes

NUM_HOSTS = 3
LIMIT_S = 420  # for a run to end once it is left alone
PAUSE_S = 40.0  # at most, between two events
FIELDS = {
    "model__name": "test_vit",
    "data__batch_size": 12,  # the parts of 1, 2 and 3 hosts are equal
    "data__tail": "pad",
    "optim__schedule": "constant",  # a run that is replayed in pieces has the same rates
    "optim__warmup_epochs": 0.0,
    "optim__ema_decay": 0.9,
    "trainer__max_epochs": 40,
    "trainer__timeout_s": 20,
}
# What may become of a host, and the exit codes of its node after it.
LOSSES = {"kill": (-signal.SIGKILL, 0), "rank": (1, 0), "term": (75, 0)}


class ElasticChaosError(Exception):
    """Something that must not happen has happened."""


class Round:
    """One run, and what is done to it.

    Args:
        folder: For everything of the round.
        nodes: Starts its nodes.
        draw: Draws the events.
    """

    def __init__(self, folder: Path, nodes: Nodes, draw: random.Random) -> None:
        self.events: list[str] = []
        self.redone = 0
        self._folder, self._nodes, self._draw = folder, nodes, draw
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._rendezvous = nodes.serve()

    def disturb(self, count: int) -> None:
        """Do so many things, at random instants; end with a node that runs."""
        while len(self.events) < count and not self._is_completed():
            self._do(self._choose())
            self._wait(self._draw.uniform(0, PAUSE_S))
        if not self._running and not self._is_completed():
            self._start()

    def finish(self) -> Run:
        """Wait for the end of the run, and check it.

        Raises:
            ElasticChaosError: If it does not end, or not well.
        """
        end = time.monotonic() + LIMIT_S
        while self._running:
            if time.monotonic() > end:
                raise ElasticChaosError(f"hangs: hosts {sorted(self._running)}")
            self._reap()
            if not self._running and not self._is_completed():
                self._start()
            time.sleep(0.1)
        if self._rendezvous.wait(60):
            raise ElasticChaosError(f"the rendezvous ended with {self._rendezvous.returncode}")
        run = Run(self._folder / "runs" / "run")
        # A part of a writer on another host is removed after a day: it may be alive.
        if left := [one for one in find_remains(self._folder / "runs") if ".part-" not in one]:
            raise ElasticChaosError("; ".join(left))
        return run

    def _choose(self) -> str:
        """Return an event that fits the number of nodes that run."""
        if not self._running:
            return "start"
        kinds = ["kill", "kill", "term", "rank", "rendezvous"]
        if len(self._running) == NUM_HOSTS:
            return self._draw.choice(kinds)
        return self._draw.choice([*kinds, *["start"] * 5])

    def _do(self, event: str) -> None:
        self.events.append(event)
        if event == "start":
            self._start()
            return
        if event == "rendezvous":
            self._rendezvous.kill()
            self._rendezvous.wait()
            self._rendezvous = self._nodes.serve()
            return
        host = self._draw.choice(sorted(self._running))
        process = self._running[host]
        if event == "kill":
            self._nodes.hosts.kill(host)
        elif event == "term":
            process.send_signal(signal.SIGTERM)
        elif not (children := _children(process.pid)):
            self.events[-1] = "kill"  # it had no rank yet
            self._nodes.hosts.kill(host)
        else:
            os.kill(children[0], signal.SIGKILL)
        del self._running[host]
        code = process.wait(LIMIT_S)
        if code not in LOSSES[self.events[-1]] and not (code == 75 and event == "rank"):
            said = self._nodes.hosts.said(host)[-3000:]
            raise ElasticChaosError(f"host {host} ended with {code} after {event}: {said}")

    def _start(self) -> None:
        host = self._draw.choice([h for h in range(NUM_HOSTS) if h not in self._running])
        self._running[host] = self._nodes.start(host)

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self._is_completed():
            self._reap()
            time.sleep(0.05)

    def _reap(self) -> None:
        """Forget the nodes that have ended; of one that nobody disturbed, 0 alone is right."""
        for host, process in list(self._running.items()):
            code = process.poll()
            if code is None:
                continue
            del self._running[host]
            if code:
                said = self._nodes.hosts.said(host)[-3000:]
                raise ElasticChaosError(f"host {host} ended with {code} by itself: {said}")

    def _is_completed(self) -> bool:
        path = self._folder / "runs" / "run" / "run.json"
        return path.exists() and json.loads(path.read_text())["status"] == "completed"


def check(nodes: Nodes, run: Run, whole: Run, expected: dict[int, list[int]]) -> int:
    """Compare a run with one that nobody disturbed; return how many samples were trained again.

    Raises:
        ElasticChaosError: If they differ.
    """
    if run.record["ledger"] != whole.record["ledger"]:
        raise ElasticChaosError("the ledger differs from that of the undisturbed run")
    if any(not entry["balanced"] for entry in run.record["ledger"]):
        raise ElasticChaosError("the ledger does not balance")
    for one, two in zip(whole.rows, run.rows, strict=True):
        for name in ("step", "samples", "lr"):
            if one[name] != two[name]:
                raise ElasticChaosError(f"{name} differs at step {one['step']}: {one} {two}")
    parts: dict[tuple[int, int], list[int]] = {}
    for start, _, _, step, samples in nodes.lines():
        parts.setdefault((start, step), []).extend(samples)
    times: Counter[int] = Counter()
    for (start, step), samples in parts.items():
        if len(samples) != len(set(samples)) or not set(samples) <= set(expected[step]):
            raise ElasticChaosError(f"start {start} took other samples at step {step}")
        times[step] += sorted(samples) == expected[step]  # of a last step, some parts may be gone
    if missing := [step for step in expected if not times[step]]:
        raise ElasticChaosError(f"no start took the whole batch of steps {missing}")
    return sum((count - 1) * len(expected[step]) for step, count in times.items())


def replay(ranks: Ranks, config: Path, run: Run) -> Run:
    """Train anew by the sequence of world sizes that a run has had, undisturbed."""
    worlds = run.record["worlds"]
    for number, world in enumerate(worlds):
        later = [after["step"] for after in worlds[number + 1 :]]
        end = min(later, default=run.record["optimizer_steps"])  # what it did beyond was redone
        if end <= world["step"]:
            continue
        codes = ranks(
            world["world_size"], "train", config, f"trainer.max_steps={end}",
            f"trainer.accumulate={world['accumulate']}",
        )  # fmt: skip
        if any(codes):
            raise ElasticChaosError(f"the replay of {world} ended with {codes}: {ranks.said(0)}")
    return Run(run.folder.parent / "replay")


class Campaign:
    """Runs rounds, and compares each with a run that nobody disturbed.

    Args:
        folder: For everything.
        url: Data set.
        server: Forks ranks; see ``rank_launcher.py``.
    """

    def __init__(self, folder: Path, url: str, server: "subprocess.Popen[str]") -> None:
        self._folder, self._url = folder, url
        (folder / "ranks").mkdir()
        self._ranks = Ranks(server, folder / "ranks")
        if any(codes := self._ranks(1, "train", write_config(folder, url, "undisturbed"))):
            raise ElasticChaosError(f"the undisturbed run: {codes} {self._ranks.said(0)}")
        self._whole = Run(folder / "runs" / "undisturbed")
        self._expected = self._ranks.batches(1)

    def run_round(self, number: int, most: int, draw: random.Random) -> tuple[list[str], str]:
        """Run a round; return its events, and what became of them in a few words.

        Raises:
            ElasticChaosError: If anything went wrong.
        """
        place = self._folder / f"round-{number}"
        place.mkdir()
        with open_hosts(NUM_HOSTS, place) as hosts:
            if hosts is None:
                raise ElasticChaosError("needs root, ip and network namespaces")
            nodes = Nodes(hosts, write_config(place, self._url, "run"), "1:3")
            chosen = Round(place, nodes, draw)
            try:
                chosen.disturb(most)
                run = chosen.finish()
            except ElasticChaosError as error:
                raise ElasticChaosError(f"{' '.join(chosen.events)}: {error}") from error
            redone = check(nodes, run, self._whole, self._expected)
        again = replay(self._ranks, write_config(place, self._url, "replay"), run)
        found = differences(run.load()["state_dict"], again.load()["state_dict"])
        if found:
            raise ElasticChaosError(f"weights differ from those of the replay: {found[:3]}")
        worlds = run.record["worlds"]
        sizes = ", ".join(f"{w['world_size']} after {w['idle_s']:.0f} s" for w in worlds)
        told = sum(world["samples_redone"] for world in worlds)
        return chosen.events, (
            f"{' '.join(chosen.events)}: worlds of {sizes}; trained again {redone} samples, "
            f"{told} in the record; batches and weights equal"
        )


def write_config(folder: Path, url: str, name: str) -> Path:
    """Write the config of a run."""
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(tiny_run(url, str(folder / "runs"), FIELDS)))
    return path


def parse_arguments(words: list[str]) -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="scripts/chaos elastic",
        description="Kill, stop and start the nodes of elastic runs at random instants.",
    )
    add = parser.add_argument
    add("--events", type=int, default=50, help="stop after so many (default: %(default)s)")
    add("--events-of-a-run", type=int, default=10, help="so many of each (default: %(default)s)")
    add("--seed", type=int, help="decides what is done when (default: another each time)")
    return parser.parse_args(words)


def main(words: list[str]) -> int:
    """Run the campaign, and say how it went; 1 if anything went wrong."""
    given = parse_arguments(words)
    seed = given.seed if given.seed is not None else int(time.time())
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    os.environ |= {"RSDL_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    print(f"chaos: seed {seed}, {folder}", flush=True)
    source = FolderSource(draw_tree(folder / "images", per_class=60), fractions=(0.7, 0.2, 0.1))
    url = str(folder / "packed")
    pack(source, connect(url), PackOptions(shard_bytes=50_000, num_workers=1))
    counts: Counter[str] = Counter()
    begin, number = time.monotonic(), 0
    with open_fork_server(RANK_LAUNCHER) as server:
        campaign = Campaign(folder, url, server)
        while counts.total() < given.events:
            most = min(given.events_of_a_run, given.events - counts.total())
            try:
                events, told = campaign.run_round(number, most, random.Random(f"{seed}/{number}"))
            except (ElasticChaosError, AssertionError, subprocess.TimeoutExpired) as error:
                print(f"chaos: FAILED in round {number} of seed {seed}: {error}")
                print(f"chaos: everything is kept in {folder}")
                return 1
            counts.update(events)
            print(f"round {number}: {told}; {counts.total()} events in all", flush=True)
            number += 1
    minutes = (time.monotonic() - begin) / 60
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    print(f"chaos: {counts.total()} events ({kinds}) in {number} runs, {minutes:.1f} minutes")
    shutil.rmtree(folder)
    return 0


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in path.read_text().split()] if path.exists() else []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
