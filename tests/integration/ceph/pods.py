"""Pods of rendered Jobs as processes of this machine, kept going as a Job controller keeps them.

A pod has the command, the arguments and the environment of the manifest and nothing else of this
shell. Different are only the places: the gateway, folders, and an address for the first pod.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rsdl.cluster.load import Manifest
from tests.k8s.kubelet import Cluster, start

ROOT = Path(__file__).parents[3]
LIMIT_S = 600
RETRY_S = 1.0
ISOLATED = ("unshare", "--pid", "--uts", "--fork", "--kill-child", "sh", "-c",
            'hostname "$0" && exec "$@"')  # fmt: skip


@dataclass
class Pods:
    """Runs the pods of Jobs.

    Attributes:
        folder: The image's working directory, and what pods write.
        cluster: What pods refer to.
        places: Variables that are otherwise on this machine.
        isolated: Whether each pod has host name and process ids of its own, as in a cluster: all
            are process 1. Needs root.
    """

    folder: Path
    cluster: Cluster
    places: Mapping[str, str]
    isolated: bool = False
    running: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def start(
        self, job: Manifest, *overrides: str, index: int | None = None
    ) -> "subprocess.Popen[bytes]":
        """Start a pod; what it says goes to a file."""
        process = start(job, self.cluster, index)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        own = {"PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        pod = process.run(
            *overrides,
            folder=self.folder,
            mounts=self.folder / f"mounts-{job.name}",
            log=self._log(index),
            environment={**self.places, **own},
            within=[*ISOLATED, f"{job.name}-{index}"] if self.isolated else (),
        )
        self.running.append(pod)
        return pod

    def run(self, job: Manifest, *overrides: str, index: int | None = None) -> int:
        """Run a pod to its end; return its exit code."""
        return self.start(job, *overrides, index=index).wait(LIMIT_S)

    def said(self, index: int | None = None) -> str:
        return self._log(index).read_text()

    def wait_for(self, condition: Callable[[], object], *indices: int | None) -> None:
        """Wait until a condition holds; no pod may have ended before."""
        end = time.monotonic() + LIMIT_S
        while not condition():
            runs = all(pod.poll() is None for pod in self.running)
            assert runs and time.monotonic() < end, "\n".join(map(self.said, indices or [None]))
            time.sleep(0.02)

    def complete(
        self,
        job: Manifest,
        *overrides: str,
        pods: "dict[int, subprocess.Popen[bytes]]",
    ) -> list[int]:
        """Keep an Indexed Job going until each index has succeeded, by its podFailurePolicy.

        Returns:
            The exit codes of pods that failed and counted.

        Raises:
            AssertionError: If the Job fails.
        """
        spec = job.body["spec"]
        counted: list[int] = []
        succeeded: set[int] = set()
        end = time.monotonic() + LIMIT_S
        while len(succeeded) < spec["completions"]:
            assert time.monotonic() < end, "\n".join(map(self.said, pods))
            for index in sorted(set(pods) - succeeded):
                code = pods[index].poll()
                if code is None:
                    continue
                if code == 0:
                    succeeded.add(index)
                    continue
                action = action_for(spec["podFailurePolicy"]["rules"], code)
                assert action != "FailJob", self.said(index)
                if action == "Count":
                    counted.append(code)
                    assert len(counted) <= spec["backoffLimit"], self.said(index)
                time.sleep(RETRY_S)
                pods[index] = self.start(job, *overrides, index=index)
            time.sleep(0.05)
        return counted

    def close(self) -> None:
        for pod in self.running:
            kill(pod)
            pod.wait()

    def _log(self, index: int | None) -> Path:
        return self.folder / f"pod-{index}.log"


def action_for(rules: Sequence[Mapping[str, Any]], code: int) -> str:
    """Return what a podFailurePolicy does about an exit code."""
    shown = 128 - code if code < 0 else code  # as a container runtime shows a signal
    for rule in rules:
        if shown in rule.get("onExitCodes", {}).get("values", ()):
            action: str = rule["action"]
            return action
    return "Count"


def kill(pod: "subprocess.Popen[bytes]") -> None:
    """Kill a pod as its node would die: all of its processes at once."""
    for pid in [pod.pid, *descendants(pod.pid)]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def stop(pod: "subprocess.Popen[bytes]") -> None:
    """Ask the process 1 of an isolated pod to stop."""
    os.kill(descendants(pod.pid)[0], signal.SIGTERM)


def descendants(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [found for child in map(int, children) for found in (child, *descendants(child))]
