"""Where a Job stands, as its JSON and that of its pods have it."""

from typing import Any

import pytest

from rsdl.cluster.labels import STUDY
from rsdl.cluster.states import INDEX, JobState, Phase, find_state, find_states

Body = dict[str, Any]
DISRUPTED = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}


def a_job(*conditions: Body, spec: Body | None = None, status: Body | None = None) -> Body:
    return {
        "kind": "Job",
        "metadata": {"name": "vit-ucm", "labels": {}, "annotations": {"rsdl/config": "vit_ucm"}},
        "spec": {"parallelism": 1, "completions": 1, **(spec or {})},
        "status": {"conditions": list(conditions), **(status or {})},
    }


def a_pod(phase: str, at: int = 0, **status: Any) -> Body:  # noqa: ANN401
    return {
        "metadata": {
            "name": f"vit-ucm-{at}",
            "labels": {"batch.kubernetes.io/job-name": "vit-ucm"},
            "creationTimestamp": f"2026-01-01T00:00:{at:02d}Z",
        },
        "status": {"phase": phase, **status},
    }


def ended(code: int, message: str = "", reason: str = "Error") -> Body:
    end = {"exitCode": code, "message": message, "reason": reason}
    return {"containerStatuses": [{"state": {"terminated": end}}]}


def true(kind: str, reason: str = "", message: str = "") -> Body:
    return {"type": kind, "status": "True", "reason": reason, "message": message}


UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                 "message": "0/300 nodes are available"}  # fmt: skip
PULLING = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
LOST = a_pod("Failed", 1, conditions=[DISRUPTED], **ended(137))


@pytest.mark.parametrize(
    ("job", "pods", "phase", "words"),
    [
        (a_job(), [], "pending", "no pod yet"),
        (a_job(), [a_pod("Pending")], "pending", ""),
        (a_job(), [a_pod("Pending", conditions=[UNSCHEDULABLE])], "pending",
         "unschedulable: 0/300 nodes are available"),
        (a_job(), [a_pod("Pending", containerStatuses=[PULLING])], "pending",
         "ImagePullBackOff: no such image"),
        (a_job(), [a_pod("Running")], "running", ""),
        (a_job(), [LOST], "restarting", "preempted (PreemptionByScheduler)"),
        (a_job(), [LOST, a_pod("Pending", 2, conditions=[UNSCHEDULABLE])], "restarting",
         "preempted (PreemptionByScheduler); unschedulable: 0/300 nodes are available"),
        (a_job(), [a_pod("Failed", 1, **ended(75))], "restarting", "preempted after saving"),
        (a_job(), [a_pod("Failed", 1, **ended(1, "crash: X\nrun it again with --debug"))],
         "restarting", "exit code 1: crash: X"),
        (a_job(status={"failed": 2}), [], "restarting", "2 pods failed"),
        (a_job(), [LOST, a_pod("Running", 2)], "running", ""),
        (a_job(spec={"suspend": True}), [], "suspended", "kubectl patch job vit-ucm"),
        (a_job(true("Complete")), [a_pod("Succeeded")], "succeeded", ""),
        (a_job(true("SuccessCriteriaMet", "CompletionsReached")), [a_pod("Running")], "succeeded",
         ""),
        (a_job(true("FailureTarget", "BackoffLimitExceeded")), [a_pod("Running")], "ending", ""),
        (a_job(true("Failed", "PodFailurePolicy", "exit code 2 matching FailJob rule")),
         [a_pod("Failed", 1, **ended(2, "data.url: no manifest\n"))], "failed",
         "not to be retried: exit code 2 (wrong input): data.url: no manifest"),
        (a_job(true("Failed", "PodFailurePolicy", "exit code 2 matching FailJob rule")), [],
         "failed", "not to be retried: exit code 2 matching FailJob rule"),
        (a_job(true("Failed", "BackoffLimitExceeded"), status={"failed": 3}),
         [a_pod("Failed", 1, **ended(1)), a_pod("Failed", 2, **ended(137, reason="OOMKilled"))],
         "failed", "failed 3 times, which is over backoffLimit; last: exit code 137 (out of mem"),
        (a_job(true("Failed", "DeadlineExceeded"), spec={"activeDeadlineSeconds": 60}), [],
         "failed", "took longer than activeDeadlineSeconds=60"),
        (a_job(true("Failed", "Odd", "why")), [], "failed", "Odd: why"),
        (a_job({"type": "Failed", "status": "False"}), [a_pod("Running")], "running", ""),
        (a_job(spec={"parallelism": 2, "completions": 2}), [a_pod("Running")], "pending",
         "1 of 2 pods run"),
        (a_job(spec={"parallelism": 2, "completions": 2}), [a_pod("Running"), a_pod("Running", 1)],
         "running", ""),
        (a_job(spec={"parallelism": 2, "completions": 2}, status={"succeeded": 1}),
         [a_pod("Succeeded"), a_pod("Running", 1)], "running", ""),
    ],
)  # fmt: skip
def test_a_state_is_read_off_the_job_and_its_pods(
    job: Body, pods: list[Body], phase: str, words: str
):
    state = find_state(job, pods)
    assert state.phase == phase
    assert (
        words in state.reason if words else state.reason in ("", "fails; its last pods are ending")
    )
    assert state.config == "vit_ucm"


def test_a_job_that_is_being_deleted_is_active_until_it_is_gone():
    job = a_job(true("Complete"))
    job["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    state = find_state(job, [])
    assert state.phase is Phase.ENDING and state.is_active and not state.is_finished


def test_pods_whose_job_is_gone_are_told_of_until_they_end():
    states = find_states([], [a_pod("Running"), LOST])
    assert states["vit-ucm"].phase is Phase.ENDING and states["vit-ucm"].is_active
    assert states["vit-ucm"].num_disruptions == 1
    assert find_states([], [LOST, a_pod("Succeeded", 2)]) == {}


def test_a_finished_job_whose_pod_still_runs_takes_up_room():
    assert find_state(a_job(true("Failed", "DeadlineExceeded")), [a_pod("Running")]).is_active
    assert not find_state(a_job(true("Failed", "DeadlineExceeded")), [LOST]).is_active
    assert not JobState("x").is_active


def test_a_pod_that_ends_for_ever_on_a_lost_node_takes_no_room_of_a_job_that_has_succeeded():
    assert not find_state(a_job(true("SuccessCriteriaMet")), [a_pod("Running")]).is_active


@pytest.mark.parametrize(
    ("pods", "phase", "words"),
    [
        ([a_pod("Pending", conditions=[UNSCHEDULABLE])], "pending", "0/300 nodes"),
        ([a_pod("Running")], "running", ""),
        ([a_pod("Succeeded")], "succeeded", ""),
        ([a_pod("Failed", 1, **ended(2, "data.url: no manifest"))], "failed", "data.url"),
        ([a_pod("Failed", 1, **ended(75)), a_pod("Running", 2)], "running", ""),
    ],
)
def test_pods_that_armada_has_started_stand_where_they_are(
    pods: list[Body], phase: str, words: str
):
    for pod in pods:
        pod["metadata"]["labels"] = {
            "app.kubernetes.io/instance": "vit-ucm", "armada_job_id": "01j", STUDY: "s",
        }  # fmt: skip
        pod["metadata"]["annotations"] = {"rsdl/config": "vit_ucm"}
    (state,) = find_states([], pods).values()
    assert (state.phase, state.config, state.study) == (phase, "vit_ucm", "s")
    assert words in state.reason


def test_disruptions_are_counted_whether_they_saved_or_not():
    pods = [LOST, a_pod("Failed", 2, **ended(75)), a_pod("Failed", 3, **ended(1))]
    assert find_state(a_job(), pods).num_disruptions == 2


def test_each_index_of_a_job_that_is_a_study_has_a_state_of_its_own():
    job = a_job(
        spec={"completions": 6, "parallelism": 2, "completionMode": "Indexed"},
        status={"completedIndexes": "0,2-3", "failedIndexes": "1", "succeeded": 3},
    )
    job["metadata"]["annotations"] = {"rsdl/configs": "a,b,c,d,e,f"}
    pods = []
    for index, phase in ((1, "Failed"), (4, "Running")):
        pod = a_pod(phase, index)
        pod["metadata"]["labels"][INDEX] = str(index)
        pods.append(pod)
    states = find_states([job], pods)
    phases = {state.config: str(state.phase) for state in states.values()}
    assert phases == {
        "a": "succeeded", "b": "failed", "c": "succeeded", "d": "succeeded",
        "e": "running", "f": "pending",
    }  # fmt: skip
    assert list(states) == [f"vit-ucm[{index}]" for index in range(6)]
    assert [state.config for state in states.values() if state.is_active] == ["e", "f"]
