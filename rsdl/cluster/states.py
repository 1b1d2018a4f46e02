"""What became of a Job, read off its JSON and that of its pods; nothing is asked or remembered.

The same objects always give the same state, so a command that was killed and started again knows
as much as one that was not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rsdl.cluster.labels import CONFIG, INSTANCE, STUDY

Object = Mapping[str, Any]

WRONG_INPUT, PREEMPTED = 2, 75  # exit codes of rsdl
DISRUPTED = "DisruptionTarget"
JOB_OF_POD = ("batch.kubernetes.io/job-name", "job-name", INSTANCE)


class Phase(StrEnum):
    """Where a Job stands."""

    ABSENT = "absent"
    SUSPENDED = "suspended"
    PENDING = "pending"
    RUNNING = "running"
    RESTARTING = "restarting"
    ENDING = "ending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class JobState:
    """Where one Job stands.

    Attributes:
        name: The Job's name.
        phase: Where it stands.
        reason: Why, for people; empty where there is nothing to say.
        config: The config that it trains; empty where it does not say.
        study: Its study; empty where it does not say.
        num_disruptions: Pods that the cluster took away, so far as they are still listed.
        has_pods: Whether a pod of it has not ended.
    """

    name: str
    phase: Phase = Phase.ABSENT
    reason: str = ""
    config: str = ""
    study: str = ""
    num_disruptions: int = 0
    has_pods: bool = False

    @property
    def is_active(self) -> bool:
        """Whether it has, or may have at any moment, pods on the cluster."""
        at_work = (Phase.PENDING, Phase.RUNNING, Phase.RESTARTING, Phase.ENDING)
        return self.phase in at_work or self.has_pods

    @property
    def is_finished(self) -> bool:
        """Whether it has succeeded or failed for good."""
        return self.phase in (Phase.SUCCEEDED, Phase.FAILED)


def find_states(jobs: Sequence[Object], pods: Sequence[Object]) -> dict[str, JobState]:
    """Return the states of all Jobs by name, and of pods whose Job is gone already.

    Args:
        jobs: Jobs as the API server gives them.
        pods: Pods as the API server gives them.
    """
    groups: dict[str, list[Object]] = {}
    for pod in pods:
        groups.setdefault(job_of(pod), []).append(pod)
    states = {name_of(job): find_state(job, groups.get(name_of(job), ())) for job in jobs}
    for name, members in groups.items():
        if name and name not in states and any(map(is_alive, members)):
            states[name] = _left_behind(name, members)
    return states


def find_state(job: Object, pods: Sequence[Object]) -> JobState:
    """Return where a Job stands.

    Args:
        job: The Job.
        pods: Its pods, those that have ended included.
    """
    phase, reason = _judge(job, pods)
    return JobState(
        name=name_of(job),
        phase=phase,
        reason=" ".join(reason.split()),
        config=annotations_of(job).get(CONFIG, ""),
        study=labels_of(job).get(STUDY, ""),
        num_disruptions=sum(_is_disrupted(pod) for pod in pods),
        has_pods=any(map(is_alive, pods)),
    )


def _judge(job: Object, pods: Sequence[Object]) -> tuple[Phase, str]:
    conditions = _conditions(job)
    if _metadata(job).get("deletionTimestamp"):
        return Phase.ENDING, "is being deleted; its pods may still save"
    if _holds(conditions, "Complete"):
        return Phase.SUCCEEDED, ""
    if _holds(conditions, "Failed"):
        return Phase.FAILED, _explain_failure(job, conditions["Failed"], pods)
    if _holds(conditions, "FailureTarget"):
        return Phase.ENDING, "fails; its last pods are ending"
    if _part(job, "spec").get("suspend"):
        return Phase.SUSPENDED, "suspended; kubectl patch job sets spec.suspend to false"
    alive = [pod for pod in pods if is_alive(pod)]
    running = [pod for pod in alive if _is_running(pod)]
    num_wanted = _count_wanted(job)
    if alive and len(running) >= num_wanted:
        return Phase.RUNNING, ""
    waits = "; ".join(dict.fromkeys(filter(None, map(_explain_waiting, alive))))
    if num_wanted > 1 and alive:
        waits = f"{len(running)} of {num_wanted} pods run" + (f"; {waits}" if waits else "")
    ended = [pod for pod in pods if not is_alive(pod) and _pod_phase(pod) == "Failed"]
    if ended or _count(job, "failed"):
        before = explain_end(_newest(ended)) if ended else f"{_count(job, 'failed')} pods failed"
        return Phase.RESTARTING, f"{before}; {waits}" if waits else before
    return Phase.PENDING, waits or ("" if alive else "no pod yet")


def _count_wanted(job: Object) -> int:
    """Return how many pods of a Job are to run at once, now."""
    spec = _part(job, "spec")
    left = int(spec.get("completions") or 1) - _count(job, "succeeded")
    return max(1, min(int(spec.get("parallelism") or 1), left))


def _left_behind(name: str, pods: Sequence[Object]) -> JobState:
    pod = pods[0]
    return JobState(
        name=name,
        phase=Phase.ENDING,
        reason="was deleted; its pods may still save",
        config=annotations_of(pod).get(CONFIG, ""),
        study=labels_of(pod).get(STUDY, ""),
        num_disruptions=sum(map(_is_disrupted, pods)),
        has_pods=True,
    )


def _explain_failure(job: Object, condition: Object, pods: Sequence[Object]) -> str:
    """Return why a Job has failed: the cluster's reason, and the last words of its last pod."""
    reason, message = str(condition.get("reason") or ""), str(condition.get("message") or "")
    failed = [pod for pod in pods if _pod_phase(pod) == "Failed"]
    last = explain_end(_newest(failed)) if failed else ""
    if reason == "PodFailurePolicy":
        told = last or message
        return f"not to be retried: {told}"
    if reason == "DeadlineExceeded":
        limit = _part(job, "spec").get("activeDeadlineSeconds")
        return f"took longer than activeDeadlineSeconds={limit}"
    if reason == "BackoffLimitExceeded":
        tries = f"failed {_count(job, 'failed') or len(failed)} times, which is over backoffLimit"
        return f"{tries}; last: {last}" if last else tries
    return ": ".join(filter(None, (reason, message, last))) or "no reason given"


def explain_end(pod: Object) -> str:
    """Return how a pod has ended: preempted, out of memory, or its exit code and last words."""
    for kind, condition in _conditions(pod).items():
        if kind == DISRUPTED and condition.get("status") == "True":
            return f"preempted ({condition.get('reason') or 'by the cluster'})"
    ends = [end for end in map(_terminated, _containers(pod)) if end.get("exitCode")]
    if not ends:
        status = _part(pod, "status")
        words = filter(None, (status.get("reason"), status.get("message")))
        return ": ".join(map(str, words)) or "failed without a word"
    end = ends[0]
    code = int(end["exitCode"])
    meaning = {WRONG_INPUT: "wrong input", PREEMPTED: "preempted after saving"}.get(code, "")
    if end.get("reason") == "OOMKilled":
        meaning = "out of memory; raise its memory request and limit"
    elif code == 137:
        meaning = "killed"
    lines = str(end.get("message") or "").strip().splitlines()
    text = f"exit code {code}" + (f" ({meaning})" if meaning else "")
    return f"{text}: {lines[-1].strip()}" if lines else text


def _explain_waiting(pod: Object) -> str:
    """Return what a pod waits for; empty where nobody says."""
    if _metadata(pod).get("deletionTimestamp"):
        return "a pod is ending"
    scheduled = _conditions(pod).get("PodScheduled", {})
    if scheduled.get("status") == "False":
        reason = str(scheduled.get("reason") or "not scheduled").lower()
        message = str(scheduled.get("message") or "")
        return f"{reason}: {message}" if message else reason
    for container in _containers(pod):
        waiting = _part(_part(container, "state"), "waiting")
        if waiting.get("reason"):
            message = str(waiting.get("message") or "")
            return f"{waiting['reason']}: {message}" if message else str(waiting["reason"])
    return ""


def is_alive(pod: Object) -> bool:
    """Return whether a pod has not ended."""
    return _pod_phase(pod) not in ("Succeeded", "Failed")


def job_of(pod: Object) -> str:
    """Return the name of the Job that a pod belongs to; empty where it belongs to none."""
    for owner in _metadata(pod).get("ownerReferences") or ():
        if owner.get("kind") == "Job":
            return str(owner.get("name"))
    labels = labels_of(pod)
    return next((labels[label] for label in JOB_OF_POD if label in labels), "")


def name_of(body: Object) -> str:
    """Return an object's name."""
    return str(_metadata(body).get("name") or "")


def labels_of(body: Object) -> Mapping[str, str]:
    """Return an object's labels."""
    return _part(_metadata(body), "labels")


def annotations_of(body: Object) -> Mapping[str, str]:
    """Return an object's annotations."""
    return _part(_metadata(body), "annotations")


def _is_running(pod: Object) -> bool:
    return _pod_phase(pod) == "Running" and not _metadata(pod).get("deletionTimestamp")


def _is_disrupted(pod: Object) -> bool:
    if _holds(_conditions(pod), DISRUPTED):
        return True
    return any(_terminated(c).get("exitCode") == PREEMPTED for c in _containers(pod))


def _newest(pods: Sequence[Object]) -> Object:
    return max(pods, key=lambda pod: str(_metadata(pod).get("creationTimestamp") or ""))


def _terminated(container: Object) -> Object:
    return _part(_part(container, "state"), "terminated")


def _containers(pod: Object) -> list[Object]:
    status = _part(pod, "status")
    return [
        *(status.get("initContainerStatuses") or ()),
        *(status.get("containerStatuses") or ()),
    ]


def _conditions(body: Object) -> dict[str, Object]:
    found = _part(body, "status").get("conditions") or ()
    return {str(condition.get("type")): condition for condition in found}


def _holds(conditions: Mapping[str, Object], kind: str) -> bool:
    return conditions.get(kind, {}).get("status") == "True"


def _pod_phase(pod: Object) -> str:
    return str(_part(pod, "status").get("phase") or "Pending")


def _count(job: Object, field: str) -> int:
    return int(_part(job, "status").get(field) or 0)


def _metadata(body: Object) -> Object:
    return _part(body, "metadata")


def _part(body: Object, name: str) -> Object:
    found = body.get(name)
    return found if isinstance(found, Mapping) else {}
