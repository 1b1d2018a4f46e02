"""The status of a pod: whether it is alive, why it waits, how it ended."""

from collections.abc import Sequence

from rsdl.cluster.labels import INSTANCE
from rsdl.cluster.objects import Object, conditions_of, holds, labels_of, metadata_of, part
from rsdl.core.errors import UNAVAILABLE, InputError, PreemptedError

EXIT_CODES = {
    InputError.exit_code: "wrong input",
    UNAVAILABLE: "tried again",
    PreemptedError.exit_code: "preempted after saving",
}
DISRUPTED = "DisruptionTarget"
HINT = "run it again with --debug"  # rsdl prints this after the error line of a crash
JOB_OF_POD = ("batch.kubernetes.io/job-name", "job-name", INSTANCE)


def explain_end(pod: Object) -> str:
    """Return how a pod ended: preempted, out of memory, or its exit code and last log line."""
    for kind, condition in conditions_of(pod).items():
        if kind == DISRUPTED and condition.get("status") == "True":
            return f"preempted ({condition.get('reason') or 'by the cluster'})"
    ends = [end for end in map(_terminated, _containers(pod)) if end.get("exitCode")]
    if not ends:
        status = part(pod, "status")
        words = filter(None, (status.get("reason"), status.get("message")))
        return ": ".join(map(str, words)) or "failed without a word"
    end = ends[0]
    code = int(end["exitCode"])
    meaning = EXIT_CODES.get(code, "")
    if end.get("reason") == "OOMKilled":
        meaning = "out of memory; raise its memory request and limit"
    elif code == 137:
        meaning = "killed"
    said = str(end.get("message") or "").strip().splitlines()
    lines = [line for line in said if line.strip() and not line.startswith(HINT)]
    text = f"exit code {code}" + (f" ({meaning})" if meaning else "")
    return f"{text}: {lines[-1].strip()}" if lines else text


def explain_waiting(pod: Object) -> str:
    """Return why a pod is not running yet; empty where no reason is given."""
    if metadata_of(pod).get("deletionTimestamp"):
        return "a pod is ending"
    scheduled = conditions_of(pod).get("PodScheduled", {})
    if scheduled.get("status") == "False":
        reason = str(scheduled.get("reason") or "not scheduled").lower()
        message = str(scheduled.get("message") or "")
        return f"{reason}: {message}" if message else reason
    for container in _containers(pod):
        waiting = part(part(container, "state"), "waiting")
        if waiting.get("reason"):
            message = str(waiting.get("message") or "")
            return f"{waiting['reason']}: {message}" if message else str(waiting["reason"])
    return ""


def is_alive(pod: Object) -> bool:
    """Return whether a pod has not ended."""
    return phase_of(pod) not in ("Succeeded", "Failed")


def job_of(pod: Object) -> str:
    """Return the name of the Job that owns a pod; empty if none does."""
    for owner in metadata_of(pod).get("ownerReferences") or ():
        if owner.get("kind") == "Job":
            return str(owner.get("name"))
    labels = labels_of(pod)
    return next((labels[label] for label in JOB_OF_POD if label in labels), "")


def phase_of(pod: Object) -> str:
    """Return a pod's phase: Pending, Running, Succeeded, Failed or Unknown."""
    return str(part(pod, "status").get("phase") or "Pending")


def is_running(pod: Object) -> bool:
    """Return whether a pod runs and is not being deleted."""
    return phase_of(pod) == "Running" and not metadata_of(pod).get("deletionTimestamp")


def is_disrupted(pod: Object) -> bool:
    """Return whether the cluster preempted or evicted a pod, whether it saved before or not."""
    if holds(conditions_of(pod), DISRUPTED):
        return True
    return any(_terminated(c).get("exitCode") == PreemptedError.exit_code for c in _containers(pod))


def newest(pods: Sequence[Object]) -> Object:
    """Return the pod created last."""
    return max(pods, key=lambda pod: str(metadata_of(pod).get("creationTimestamp") or ""))


def _terminated(container: Object) -> Object:
    return part(part(container, "state"), "terminated")


def _containers(pod: Object) -> list[Object]:
    status = part(pod, "status")
    return [
        *(status.get("initContainerStatuses") or ()),
        *(status.get("containerStatuses") or ()),
    ]
