"""What the cluster lacks: a node that takes pods, runs nothing, and says that it did."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from tests.integration.apiserver.plane import Object, Refused, Space
from tests.integration.cluster.world import ENDS

NODE = "node-1"


@dataclass
class Nodes:
    """Moves the pods of a namespace through their phases, by patching their status.

    Attributes:
        space: The namespace.
        fates: What becomes of a Job's pods one after the other, as in the small server's world:
            ``succeed``, ``preempt``, ``leave`` (exit 75), ``crash``, ``wrong`` (exit 2), ``oom``,
            ``hang``, ``pend``. The last is repeated.
        usual: What becomes of the others.
        on_success: Called with the name of a Job one of whose pods has succeeded.
        saved: Pods that were asked to stop while they ran, and have.
        most: The most Jobs that had a pod which has not ended, at once.
    """

    space: Space
    fates: dict[str, list[str]] = field(default_factory=dict)
    usual: str = "succeed"
    on_success: Callable[[str], object] = lambda name: None
    saved: list[str] = field(default_factory=list)
    most: int = 0
    _given: dict[str, str] = field(default_factory=dict)

    def step(self) -> None:
        """Move every pod one phase on."""
        pods = self.space.list("v1/pods")
        alive = [pod for pod in pods if pod["status"]["phase"] in ("Pending", "Running")]
        self.most = max(self.most, len({job_of(pod) for pod in alive}))
        for pod in alive:
            # It may have been deleted meanwhile.
            with suppress(Refused):
                self._move(pod)

    def _move(self, pod: Object) -> None:
        name, job = pod["metadata"]["name"], job_of(pod)
        running = pod["status"]["phase"] == "Running"
        if pod["metadata"].get("deletionTimestamp"):
            self.space("DELETE", f"v1/pods/{name}?gracePeriodSeconds=0")
            self.saved += [name] * running
            return
        fates = self.fates.get(job, [self.usual])
        fate = self._given.setdefault(name, fates.pop(0) if len(fates) > 1 else fates[0])
        if fate == "pend":
            message = "0/300 nodes are available: 300 Insufficient nvidia.com/gpu."
            refusal = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
            self._say(name, {"phase": "Pending", "conditions": [refusal | {"message": message}]})
        elif not pod["spec"].get("nodeName"):
            target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
            self.space(
                "POST", f"v1/pods/{name}/binding", {"metadata": {"name": name}, "target": target}
            )
        elif not running:
            self._say(name, {"phase": "Running"})
        elif fate != "hang":
            if fate == "succeed":
                self.on_success(job)
            self._say(name, end_of(pod, fate))

    def _say(self, name: str, status: Object) -> None:
        self.space("PATCH", f"v1/pods/{name}/status", {"status": status}, kind="merge")


def job_of(pod: Object) -> str:
    return str(pod["metadata"]["labels"].get("job-name", pod["metadata"]["name"]))


def end_of(pod: Object, fate: str) -> Object:
    """Return how a pod ends: its container's name, and what the API server asks for besides."""
    status = ENDS[fate]()
    for container in status["containerStatuses"]:
        container |= {
            "name": pod["spec"]["containers"][0]["name"], "image": "", "imageID": "",
            "ready": False, "restartCount": 0,
        }  # fmt: skip
        container["state"]["terminated"]["finishedAt"] = time.strftime(
            "%Y-%m-%dT%H:%M:%SZ", time.gmtime()
        )
    return status


@contextmanager
def working(nodes: Nodes) -> Iterator[Nodes]:
    """Let the node work on by itself for as long as the block lasts."""

    def step() -> None:
        with suppress(OSError):  # the API server is away
            nodes.step()

    with repeating(step, 0.1):
        yield nodes


@contextmanager
def repeating(step: Callable[[], None], every_s: float) -> Iterator[None]:
    """Take a step again and again beside the block; none may have failed at its end."""
    over = threading.Event()
    faults: list[Exception] = []

    def work() -> None:
        while not over.wait(every_s):
            try:
                step()
            except Exception as error:
                faults.append(error)
                return

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert not faults, faults
