"""The status table of a study as values: Job status and run record of each run."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from rsdl.cluster.jobs import Snapshot
from rsdl.cluster.labels import plain
from rsdl.cluster.states import JobState, Phase
from rsdl.commands.runs import Runs
from rsdl.config.task import BoxKind, TaskFacts, find_facts
from rsdl.evaluate.formatting import duration
from rsdl.records.run_record import RunRecord

# A run writes its record about every 20 s; a validation or an upload may delay that for a while.
STALE_AFTER_S = 900.0
UNKNOWN = "unknown"  # the cluster was not queried
NONE = "none"  # no run yet


@dataclass(frozen=True, slots=True)
class Row:
    """One run of the study.

    Attributes:
        run: Name of the config and of the run's folder.
        job: Name of the Job.
        cluster: Phase of the Job; ``unknown`` if no cluster was queried.
        status: Status in the record; ``stale`` if it is running there but not in fact; ``none``
            without a record.
        note: Explanation for the user.
        epochs: Epochs completed.
        epochs_planned: Epochs to complete; ``None`` without a record.
        eta_s: Estimated seconds of training left; ``None`` if unknown.
        task: Name of the run's task.
        boxes: Kind of boxes, of detection.
        score: Best value of the task's primary metric so far, 0 to 1.
        preemptions: Number of preemptions.
        gpu: GPU utilization from the record, 0 to 1.
        gpu_by_cluster: GPU utilization from the cluster's Prometheus; ``None`` if not queried.
        device_s: Device seconds so far.
        age_s: Seconds since the record was written; ``None`` if the record has no valid time.
    """

    run: str
    job: str
    cluster: str
    status: str = NONE
    note: str = ""
    epochs: int = 0
    epochs_planned: int | None = None
    eta_s: float | None = None
    task: str = "classification"
    boxes: BoxKind | None = None
    score: float | None = None
    preemptions: int = 0
    gpu: float | None = None
    gpu_by_cluster: float | None = None
    device_s: float = 0.0
    age_s: float | None = None

    @property
    def facts(self) -> TaskFacts:
        """Facts of the run's task, such as its primary metric."""
        return find_facts(self.task, self.boxes)

    def to_json(self) -> dict[str, Any]:
        """Return the row as plain values, with the score under the name of its metric."""
        metric = self.facts.primary_metric
        page = asdict(self)
        del page["task"], page["boxes"]
        return {metric if key == "score" else key: value for key, value in page.items()}


def make_rows(
    configs: Mapping[str, str], snapshot: Snapshot | None, runs: Runs | None, now: datetime
) -> list[Row]:
    """Return a row for every run in the manifests, on the cluster or with a record, by name.

    Args:
        configs: Configs of the local manifests, by the names of their Jobs.
        snapshot: State of the cluster; ``None`` if it was not queried.
        runs: Records; ``None`` if none were read.
        now: Current time, with its time zone.
    """
    folders = [] if runs is None else runs.names
    known = {config: job for job, config in configs.items()}
    states = {} if snapshot is None else snapshot.states
    for name, state in states.items():
        # A pod whose Job is deleted may have no config annotation.
        run = state.config or configs.get(name) or _name_run(name, folders)
        # Prefer the manifests' Job; else take the index of an Indexed Job with the same config.
        if run not in known or known[run] not in states:
            known[run] = name
    for run in folders:
        known.setdefault(run, plain(run))
    return [_make_row(run, known[run], snapshot, runs, now) for run in sorted(known)]


def _name_run(job: str, runs: Iterable[str]) -> str:
    """Return the run whose name the Job's name ends with, after its study; else the Job's name."""
    found = [run for run in runs if f"-{job}".endswith(f"-{plain(run)}")]
    return max(found, key=len, default=job)


def _make_row(
    run: str, job: str, snapshot: Snapshot | None, runs: Runs | None, now: datetime
) -> Row:
    state = None if snapshot is None else snapshot.state(job)
    phase = UNKNOWN if state is None else str(state.phase)
    note = "" if state is None else state.reason
    num_disruptions = 0 if state is None else state.num_disruptions
    record = None if runs is None else runs.records.get(run)
    if runs is None or record is None:
        broken = None if runs is None else runs.broken.get(run)
        status = NONE if broken is None else "broken"
        note = note or (f"its record {broken}" if broken else "")
        return Row(run, job, phase, status, note, preemptions=num_disruptions)
    standing = runs.standing(run)
    status, planned = standing.status, standing.epochs_planned
    age_s = _age(record, now)
    stale = is_stale(record.status, age_s, state)
    if stale:
        heard = "at no time" if age_s is None else f"{duration(age_s)} ago"
        note = note or f"its record says running, and was last written {heard}"
    if record.status in ("failed", "completed"):
        note = note or standing.reason
    return Row(
        run=run,
        job=job,
        cluster=phase,
        status="stale" if stale else status,
        note=" ".join(note.split()),
        epochs=record.epochs_completed,
        epochs_planned=planned,
        eta_s=0.0 if status == "completed" else remaining_s(record, planned),
        task=record.task,
        boxes=record.boxes,
        score=record.score("best" if record.metrics.get("best") else "final"),
        preemptions=record.preemptions,
        gpu=record.gpu_utilization,
        device_s=record.device_s,
        age_s=age_s,
    )


def is_stale(status: str, age_s: float | None, state: JobState | None) -> bool:
    """Return whether a run has the status "running" in its record but does not run.

    Args:
        status: Status in the record.
        age_s: Seconds since the record was written; ``None`` if unknown.
        state: State of the Job; ``None`` if no cluster was queried.
    """
    if status != "running" or (age_s is not None and age_s < STALE_AFTER_S):
        return False
    return state is None or not (state.phase is Phase.RUNNING or state.has_pods)


def remaining_s(record: RunRecord, planned: int) -> float | None:
    """Return the seconds of training left to so many epochs, from the mean speed so far.

    Steps that were repeated after a preemption count as time but not as progress.
    """
    done = float(record.epochs_completed)
    if record.ledger:
        # Count steps of the current epoch; the last completed epoch gives the steps per epoch.
        steps = math.ceil(record.ledger[-1].planned / max(record.global_batch, 1))
        done = max(done, min(record.optimizer_steps / max(steps, 1), done + 1))
    if done <= 0 or record.wall_s <= 0:
        return None
    return record.wall_s / done * max(planned - done, 0.0)


def _age(record: RunRecord, now: datetime) -> float | None:
    """Return seconds since a record was written; ``None`` if its time is not valid."""
    try:
        written = datetime.fromisoformat(record.updated_at)
    except ValueError:
        return None
    if written.tzinfo is None:
        written = written.replace(tzinfo=UTC)
    return (now - written).total_seconds()
