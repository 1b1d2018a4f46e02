"""The state of a Job, derived from its JSON and that of its pods, without requests or memory.

The same objects always give the same state, so a restarted command knows as much as one that was
never killed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rsdl.cluster.labels import CONFIG, CONFIGS, STUDY
from rsdl.cluster.objects import (
    Object,
    annotations_of,
    conditions_of,
    holds,
    labels_of,
    metadata_of,
    name_of,
    part,
)
from rsdl.cluster.pods import (
    explain_end,
    explain_waiting,
    is_alive,
    is_disrupted,
    is_running,
    job_of,
    newest,
    phase_of,
)

SUCCESS = ("Complete", "SuccessCriteriaMet")  # the second is set as soon as success is decided
ARMADA = "armada_job_id"  # a label of pods that Armada starts
INDEX = "batch.kubernetes.io/job-completion-index"  # a label of pods


class Phase(StrEnum):
    """The phase of a Job."""

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
    """The state of one Job.

    Attributes:
        name: The Job's name.
        phase: Its phase.
        reason: Reason to show; empty where there is none.
        config: The config that it trains; empty if not annotated.
        study: Its study; empty if not labelled.
        num_disruptions: Disrupted pods among those still listed.
        has_pods: Whether it has a pod that has not ended.
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
        """Whether it has pods on the cluster, or may get some at any moment."""
        at_work = (Phase.PENDING, Phase.RUNNING, Phase.RESTARTING, Phase.ENDING)
        # A pod of a succeeded Job may terminate forever on a lost node.
        return self.phase in at_work or (self.has_pods and self.phase is not Phase.SUCCEEDED)

    @property
    def is_finished(self) -> bool:
        """Whether it has succeeded or finally failed."""
        return self.phase in (Phase.SUCCEEDED, Phase.FAILED)


def find_states(jobs: Sequence[Object], pods: Sequence[Object]) -> dict[str, JobState]:
    """Return the states of all Jobs by name, including pods whose Job is gone.

    A Job that trains one config per index has one state per index, named ``JOB[INDEX]``.

    Args:
        jobs: Jobs from the API server.
        pods: Pods from the API server.
    """
    groups: dict[str, list[Object]] = {}
    for pod in pods:
        groups.setdefault(job_of(pod), []).append(pod)
    states: dict[str, JobState] = {}
    for job in jobs:
        mine = groups.get(name_of(job), ())
        configs = annotations_of(job).get(CONFIGS)
        found = (
            _find_states_of_indexes(job, configs.split(","), mine)
            if configs
            else [find_state(job, mine)]
        )
        states |= {state.name: state for state in found}
        groups.pop(name_of(job), None)
    for name, members in groups.items():
        if not name or name in states:
            continue
        if any(ARMADA in labels_of(pod) for pod in members):
            states[name] = _find_state_of_armada(name, members)
        elif any(map(is_alive, members)):
            states[name] = _left_behind(name, members)
    return states


def find_state(job: Object, pods: Sequence[Object]) -> JobState:
    """Return the state of a Job.

    Args:
        job: The Job.
        pods: Its pods, including ended ones.
    """
    phase, reason = _judge(job, pods)
    return JobState(
        name=name_of(job),
        phase=phase,
        reason=_to_line(reason),
        config=annotations_of(job).get(CONFIG, ""),
        study=labels_of(job).get(STUDY, ""),
        num_disruptions=sum(is_disrupted(pod) for pod in pods),
        has_pods=any(map(is_alive, pods)),
    )


def _find_states_of_indexes(
    job: Object, configs: Sequence[str], pods: Sequence[Object]
) -> Iterator[JobState]:
    """Yield the state of each index of a Job, as if it were a separate Job."""
    status, own = part(job, "status"), annotations_of(job)
    done = _indexes(str(status.get("completedIndexes") or ""))
    lost = _indexes(str(status.get("failedIndexes") or ""))
    shared = {kind: each for kind, each in conditions_of(job).items() if kind not in SUCCESS}
    for index, config in enumerate(configs):
        mine = [pod for pod in pods if labels_of(pod).get(INDEX) == str(index)]
        conditions = dict(shared)
        if index in done:
            conditions = {"Complete": {"status": "True"}}
        elif index in lost:
            conditions = {"Failed": {"status": "True", "reason": "PodFailurePolicy"}}
        alone = {
            **job,
            "metadata": {
                **metadata_of(job),
                "name": f"{name_of(job)}[{index}]",
                "annotations": {**own, CONFIG: config},
            },
            "spec": {**part(job, "spec"), "completions": 1, "parallelism": 1},
            "status": {"conditions": [{"type": kind, **each} for kind, each in conditions.items()]},
        }
        yield find_state(alone, mine)


def _indexes(text: str) -> set[int]:
    """Return the numbers of an index set in Kubernetes' notation, such as ``1,3-5``."""
    spans = [part.partition("-") for part in text.split(",") if part]
    return {n for first, _, last in spans for n in range(int(first), int(last or first) + 1)}


def _judge(job: Object, pods: Sequence[Object]) -> tuple[Phase, str]:
    conditions = conditions_of(job)
    if metadata_of(job).get("deletionTimestamp"):
        return Phase.ENDING, "is being deleted; its pods may still save"
    if any(holds(conditions, condition) for condition in SUCCESS):
        return Phase.SUCCEEDED, ""
    if holds(conditions, "Failed"):
        return Phase.FAILED, _explain_failure(job, conditions["Failed"], pods)
    if holds(conditions, "FailureTarget"):
        return Phase.ENDING, "fails; its last pods are ending"
    if part(job, "spec").get("suspend"):
        patch = """'{"spec":{"suspend":false}}'"""
        return Phase.SUSPENDED, f"to let it run: kubectl patch job {name_of(job)} -p {patch}"
    alive = [pod for pod in pods if is_alive(pod)]
    running = [pod for pod in alive if is_running(pod)]
    num_wanted = _count_wanted(job)
    if alive and len(running) >= num_wanted:
        return Phase.RUNNING, ""
    waits = "; ".join(dict.fromkeys(filter(None, map(explain_waiting, alive))))
    if num_wanted > 1 and alive:
        waits = f"{len(running)} of {num_wanted} pods run" + (f"; {waits}" if waits else "")
    ended = [pod for pod in pods if not is_alive(pod) and phase_of(pod) == "Failed"]
    if ended or _count(job, "failed"):
        before = explain_end(newest(ended)) if ended else f"{_count(job, 'failed')} pods failed"
        return Phase.RESTARTING, f"{before}; {waits}" if waits else before
    return Phase.PENDING, waits or ("" if alive else "no pod yet")


def _count_wanted(job: Object) -> int:
    """Return how many pods of a Job should run now."""
    spec = part(job, "spec")
    left = int(spec.get("completions") or 1) - _count(job, "succeeded")
    return max(1, min(int(spec.get("parallelism") or 1), left))


def _find_state_of_armada(name: str, pods: Sequence[Object]) -> JobState:
    """Return the state of pods started by Armada, as if of a Job without retries."""
    last = newest(pods)
    ended = {"Succeeded": "Complete", "Failed": "Failed"}.get(phase_of(last))
    job = {
        "metadata": {
            "name": name, "labels": labels_of(last), "annotations": annotations_of(last)
        },
        "status": {"conditions": [{"type": ended, "status": "True"}] if ended else []},
    }  # fmt: skip
    return find_state(job, pods)


def _left_behind(name: str, pods: Sequence[Object]) -> JobState:
    pod = pods[0]
    return JobState(
        name=name,
        phase=Phase.ENDING,
        reason="was deleted; its pods may still save",
        config=annotations_of(pod).get(CONFIG, ""),
        study=labels_of(pod).get(STUDY, ""),
        num_disruptions=sum(map(is_disrupted, pods)),
        has_pods=True,
    )


def _explain_failure(job: Object, condition: Object, pods: Sequence[Object]) -> str:
    """Return why a Job failed: the cluster's reason, and the last log line of its last pod."""
    reason, message = str(condition.get("reason") or ""), str(condition.get("message") or "")
    failed = [pod for pod in pods if phase_of(pod) == "Failed"]
    last = explain_end(newest(failed)) if failed else ""
    if reason == "PodFailurePolicy":
        told = last or message
        return f"not to be retried: {told}"
    if reason == "DeadlineExceeded":
        limit = part(job, "spec").get("activeDeadlineSeconds")
        return f"took longer than activeDeadlineSeconds={limit}"
    if reason == "BackoffLimitExceeded":
        tries = f"failed {_count(job, 'failed') or len(failed)} times, which is over backoffLimit"
        return f"{tries}; last: {last}" if last else tries
    return ": ".join(filter(None, (reason, message, last))) or "no reason given"


def _to_line(text: str) -> str:
    """Return text as one line without terminal control characters: it may come from a pod."""
    return "".join(character for character in " ".join(text.split()) if character.isprintable())


def _count(job: Object, field: str) -> int:
    return int(part(job, "status").get(field) or 0)
