"""What a small Kubernetes holds: objects, and a controller that moves Jobs and pods one step on.

It follows the batch/v1 controller as far as a client can tell: pods of a Job are made, wait, run
and end; a Job completes, retries up to its backoffLimit, or is failed by its podFailurePolicy;
deletion in the foreground keeps a Job until its last pod has gone. Time is steps, some for each
look at the Jobs, and what happens is decided by a seeded generator or by the fates of a test.
"""

import itertools
import threading
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from random import Random
from typing import Any

Object = dict[str, Any]
Key = tuple[str, str, str]  # resource, namespace, name

NAMED = {"jobs": "Job", "pods": "Pod", "services": "Service", "configmaps": "ConfigMap",
         "serviceaccounts": "ServiceAccount"}  # fmt: skip
DEFAULTS = {"parallelism": 1, "completions": 1, "backoffLimit": 6, "suspend": False,
            "completionMode": "NonIndexed"}  # fmt: skip
DISRUPTED = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}


@dataclass
class World:
    """Everything, under one lock.

    Attributes:
        fates: What becomes of a Job's pods one after the other: ``succeed``, ``preempt``, ``leave``
            (exit 75), ``crash``, ``wrong`` (exit 2), ``oom``, ``hang`` (runs on), ``pend`` (never
            fits). The last is repeated; by default ``succeed``.
        random: Decides whether a pod moves on at a step; ``None`` moves all, at every step.
        steps: How many steps pass between two looks at the Jobs.
        on_success: Called with the name of a Job that has completed.
        expire: Whether completed Jobs are removed a step later, as ttlSecondsAfterFinished does.
        max_active: The most Jobs that were active at once.
        created: Names of Jobs in the order in which they were made.
    """

    fates: dict[str, list[str]] = field(default_factory=dict)
    random: Random | None = None
    steps: int = 1
    on_success: Callable[[str], object] = lambda name: None
    expire: bool = False
    max_active: int = 0
    created: list[str] = field(default_factory=list)
    objects: dict[Key, Object] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    _count: Iterator[int] = field(default_factory=itertools.count)

    def put(self, resource: str, namespace: str, body: Object) -> Object:
        """Add or replace an object, as the API server would hold it."""
        number = next(self._count)
        metadata = body.setdefault("metadata", {})
        metadata["namespace"] = namespace
        metadata.setdefault("uid", f"00000000-0000-4000-8000-{number:012d}")
        at = f"2026-01-01T{number // 3600 % 24:02d}:{number // 60 % 60:02d}:{number % 60:02d}Z"
        metadata.setdefault("creationTimestamp", at)
        metadata["resourceVersion"] = str(number)
        if resource == "jobs" and "selector" not in body["spec"]:
            self._default(body)
        self.objects[resource, namespace, metadata["name"]] = body
        if resource == "jobs":
            self.max_active = max(self.max_active, self.num_active())
        return body

    def listed(self, resource: str, namespace: str, labels: dict[str, str]) -> list[Object]:
        """Return the objects of a resource that carry labels."""
        return [
            body
            for (kind, space, _), body in sorted(self.objects.items())
            if (kind, space) == (resource, namespace)
            and labels.items() <= body["metadata"].get("labels", {}).items()
        ]

    def delete(self, resource: str, namespace: str, name: str, policy: str) -> None:
        """Delete an object, and what it owns as the policy says."""
        body = self.objects[resource, namespace, name]
        if resource != "jobs":
            del self.objects[resource, namespace, name]
            return
        for pod in self.pods_of(body):
            if is_alive(pod):
                pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        if policy == "Foreground":
            body["metadata"]["finalizers"] = ["foregroundDeletion"]
        else:
            del self.objects[resource, namespace, name]

    def num_active(self) -> int:
        """Return how many Jobs have pods or may have: this is what must stay below a limit."""
        jobs = [body for (kind, _, _), body in self.objects.items() if kind == "jobs"]
        names = {j["metadata"]["name"] for j in jobs if not _is_over(j) or self._alive_of(j)}
        pods = [body for (kind, _, _), body in self.objects.items() if kind == "pods"]
        return len(names | {owner_of(pod) for pod in pods if is_alive(pod)})

    def pods_of(self, job: Object) -> list[Object]:
        """Return the pods of a Job."""
        name, space = job["metadata"]["name"], job["metadata"]["namespace"]
        return [pod for pod in self.listed("pods", space, {}) if owner_of(pod) == name]

    def go_on(self, num_steps: int) -> None:
        """Let everything move some steps on while requests wait."""
        for _ in range(num_steps):
            with self.lock:
                self.step()

    def step(self) -> None:
        """Let everything move one step on."""
        for (kind, _, _), body in list(self.objects.items()):
            if kind == "pods" and self._moves():
                self._move_pod(body)
        for (kind, _, _), body in list(self.objects.items()):
            if kind == "jobs" and self._moves():
                self._move_job(body)

    def _moves(self) -> bool:
        return self.random is None or self.random.random() < 0.7

    def _move_pod(self, pod: Object) -> None:
        metadata, status = pod["metadata"], pod["status"]
        if metadata.get("deletionTimestamp"):
            del self.objects["pods", metadata["namespace"], metadata["name"]]
            return
        fate = metadata["annotations"]["fate"]
        if status["phase"] == "Pending":
            if fate == "pend":
                message = "0/300 nodes are available: 300 Insufficient nvidia.com/gpu."
                refusal = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
                status["conditions"] = [refusal | {"message": message}]
                return
            status["phase"], status["conditions"] = "Running", []
        elif status["phase"] == "Running" and fate != "hang":
            status.update(ENDS[fate]())

    def _move_job(self, job: Object) -> None:
        metadata, space = job["metadata"], job["metadata"]["namespace"]
        if metadata.get("deletionTimestamp"):
            if not self._alive_of(job):
                del self.objects["jobs", space, metadata["name"]]
                for pod in self.pods_of(job):
                    del self.objects["pods", space, pod["metadata"]["name"]]
            return
        if _is_over(job):
            if self.expire and job["status"]["conditions"][0]["type"] == "Complete":
                self.delete("jobs", space, metadata["name"], "Background")
            return
        if job["spec"].get("suspend") or self._alive_of(job):
            return
        self._judge(job)
        if not _is_over(job):
            self._start_pods(job)

    def _judge(self, job: Object) -> None:
        """Complete or fail a Job by what became of its pods."""
        pods = self.pods_of(job)
        if pods and all(pod["status"]["phase"] == "Succeeded" for pod in pods[-_width(job) :]):
            self.on_success(job["metadata"]["name"])
            _conclude(job, "Complete", "CompletionsReached", "")
            return
        crashed = [pod for pod in pods if _counts(pod)]
        job["status"]["failed"] = len(crashed)
        wrong = [pod for pod in pods if _exit_code(pod) == 2]
        if wrong:
            message = "Container train failed with exit code 2 matching FailJob rule at index 0"
            _conclude(job, "Failed", "PodFailurePolicy", message)
        elif len(crashed) > job["spec"].get("backoffLimit", 6):
            message = "Job has reached the specified backoff limit"
            _conclude(job, "Failed", "BackoffLimitExceeded", message)

    def _start_pods(self, job: Object) -> None:
        name = job["metadata"]["name"]
        fates = self.fates.get(name, ["succeed"])
        for _ in range(_width(job)):
            number = next(self._count)
            template = deepcopy(job["spec"]["template"])
            metadata = template.setdefault("metadata", {})
            metadata["name"] = f"{name}-{number:05d}"
            metadata.setdefault("labels", {})["batch.kubernetes.io/job-name"] = name
            fate = fates.pop(0) if len(fates) > 1 else fates[0]
            metadata["annotations"] = {"fate": fate}
            metadata["ownerReferences"] = [{"kind": "Job", "name": name}]
            pod = {"apiVersion": "v1", "kind": "Pod", **template, "status": {"phase": "Pending"}}
            self.put("pods", job["metadata"]["namespace"], pod)

    def _alive_of(self, job: Object) -> list[Object]:
        return [pod for pod in self.pods_of(job) if is_alive(pod)]

    def _default(self, job: Object) -> None:
        """Add what the API server adds to a new Job."""
        uid, name = job["metadata"]["uid"], job["metadata"]["name"]
        spec = job["spec"]
        for label, value in (("batch.kubernetes.io/controller-uid", uid),
                             ("batch.kubernetes.io/job-name", name)):  # fmt: skip
            spec["template"].setdefault("metadata", {}).setdefault("labels", {})[label] = value
        spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
        for name, value in DEFAULTS.items():
            spec.setdefault(name, value)
        spec["template"]["spec"].setdefault("dnsPolicy", "ClusterFirst")
        job["status"] = {}
        self.created.append(job["metadata"]["name"])


def owner_of(pod: Object) -> str:
    return str(pod["metadata"]["ownerReferences"][0]["name"])


def is_alive(pod: Object) -> bool:
    return pod["status"]["phase"] not in ("Succeeded", "Failed")


def _is_over(job: Object) -> bool:
    return bool(job["status"].get("conditions"))


def _conclude(job: Object, kind: str, reason: str, message: str) -> None:
    condition = {"type": kind, "status": "True", "reason": reason, "message": message}
    job["status"]["conditions"] = [condition]


def _width(job: Object) -> int:
    return int(job["spec"].get("parallelism", 1))


def _exit_code(pod: Object) -> int | None:
    for status in pod["status"].get("containerStatuses", ()):
        code: int = status["state"]["terminated"]["exitCode"]
        return code
    return None


def _counts(pod: Object) -> bool:
    """Return whether a pod counts towards backoffLimit, as the study's podFailurePolicy has it."""
    disrupted = any(c["type"] == "DisruptionTarget" for c in pod["status"].get("conditions", ()))
    return pod["status"]["phase"] == "Failed" and not disrupted and _exit_code(pod) != 75


def _ended(code: int, message: str = "", reason: str = "Error") -> Object:
    phase = "Failed" if code else "Succeeded"
    end = {"exitCode": code, "reason": reason if code else "Completed", "message": message}
    return {
        "phase": phase,
        "containerStatuses": [{"name": "train", "state": {"terminated": end}}],
    }


ENDS: dict[str, Callable[[], Object]] = {
    "succeed": lambda: _ended(0),
    "crash": lambda: _ended(1, "crash: RuntimeError: CUDA error\nrun it again with --debug\n"),
    "wrong": lambda: _ended(2, "data.url: no manifest at s3://imagery/ucm\n"),
    "oom": lambda: _ended(137, reason="OOMKilled"),
    "leave": lambda: _ended(75, "run: stopped by SIGTERM; run it again to go on\n"),
    "preempt": lambda: {**_ended(137), "conditions": [dict(DISRUPTED)]},
}
