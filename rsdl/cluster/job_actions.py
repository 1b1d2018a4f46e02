"""Pure decisions on each Job of a study, from the state of the cluster and the run records."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from enum import StrEnum

from rsdl.cluster.diff import find_differences
from rsdl.cluster.jobs import Snapshot
from rsdl.cluster.labels import CONFIG
from rsdl.cluster.load import Manifest
from rsdl.cluster.states import Phase


class JobAction(StrEnum):
    """The action for a Job."""

    DONE = "completed"
    THERE = "submitted before"
    FAILED = "failed"
    CHANGED = "changed"
    WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class Decision:
    """The action decided for a Job of the study.

    Attributes:
        manifest: The Job's manifest.
        action: The action.
        why: Reason to show; empty where the action explains itself.
    """

    manifest: Manifest
    action: JobAction
    why: str = ""

    @property
    def name(self) -> str:
        """The Job's name."""
        return self.manifest.name


@dataclass(frozen=True, slots=True)
class RunFacts:
    """The fields of a run's record that the decisions need.

    Attributes:
        status: ``running``, ``completed``, ``preempted``, ``failed``, or ``extended``: completed,
            and its config makes it longer.
        reason: Reason to show.
    """

    status: str
    reason: str = ""


def sort_out(
    jobs: Sequence[Manifest],
    snapshot: Snapshot,
    runs: Mapping[str, RunFacts],
    retried: Set[str] = frozenset(),
) -> list[Decision]:
    """Return the decision on each Job, in the order of the manifests.

    Args:
        jobs: The study's Jobs, as rendered.
        snapshot: State of the cluster.
        runs: Facts from the run records, by the Job's name.
        retried: Names of failed Jobs to submit again.
    """
    decisions = [_judge(job, snapshot, runs.get(job.name)) for job in jobs]
    return [
        replace(t, action=JobAction.WAITING)
        if t.action is JobAction.FAILED and t.name in retried
        else t
        for t in decisions
    ]


def _judge(job: Manifest, snapshot: Snapshot, run: RunFacts | None) -> Decision:
    state = snapshot.state(job.name)
    if state.phase is Phase.ABSENT and (other := snapshot.find(job.annotations.get(CONFIG, ""))):
        # Another Job trains this config, such as an index: two pods must not write one run.
        if other.is_active:
            return Decision(job, JobAction.THERE, f"{other.name} trains it: {other.phase}")
        state = other if other.phase is Phase.SUCCEEDED else state
    if run is not None and run.status == "completed":
        return Decision(job, JobAction.DONE, run.reason)
    if state.phase is Phase.SUCCEEDED:
        extended = run is not None and run.status == "extended"
        return Decision(job, JobAction.WAITING if extended else JobAction.DONE)
    if state.phase is Phase.FAILED:
        return Decision(job, JobAction.FAILED, state.reason)
    if state.phase is Phase.ENDING:
        return Decision(job, JobAction.WAITING, state.reason)
    if state.phase is not Phase.ABSENT:
        drift = find_differences(job.body, snapshot.jobs[job.name])
        if drift:
            rest = f" and {len(drift) - 1} more fields" if len(drift) > 1 else ""
            return Decision(job, JobAction.CHANGED, f"{drift[0]}{rest}")
        return Decision(
            job, JobAction.THERE, f"{state.phase}: {state.reason}" if state.reason else ""
        )
    if run is not None and run.status == "failed":
        return Decision(job, JobAction.FAILED, f"its run says: {run.reason or 'no reason'}")
    return Decision(job, JobAction.WAITING)


def admit(decisions: Sequence[Decision], snapshot: Snapshot, max_running: int) -> list[Decision]:
    """Return the Jobs to submit now: as many as there is room for, in order.

    Every Job of the study that has or may get pods takes up room, even one without a manifest, and
    one that is being deleted until its last pod is gone. A failed Job that is retried is replaced.

    Args:
        decisions: Those of the whole study.
        snapshot: State of the cluster.
        max_running: Maximum number of active Jobs.
    """
    room = max(0, max_running - snapshot.num_active)
    waiting = [decision for decision in decisions if decision.action is JobAction.WAITING]
    return [t for t in waiting if not snapshot.state(t.name).is_active][:room]
