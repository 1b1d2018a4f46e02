"""What becomes of each Job, whatever the cluster and the records say."""

from hypothesis import given
from hypothesis import strategies as st

from rsdl.cluster.job_actions import JobAction, RunFacts, admit, sort_out
from rsdl.cluster.jobs import Snapshot
from rsdl.cluster.load import Manifest
from rsdl.cluster.states import JobState, Phase

NAMES = tuple("abcdefgh")
JOBS = [Manifest("k8s", {"kind": "Job", "metadata": {"name": name}, "spec": {}}) for name in NAMES]

phases = st.sampled_from(Phase)
snapshots = st.builds(
    lambda found, others: Snapshot(
        {
            name: JobState(name, phase, has_pods=pods)
            for name, (phase, pods) in (found | others).items()
            if phase is not Phase.ABSENT
        },
        {name: {"spec": {}} for name in found},
    ),
    st.dictionaries(st.sampled_from(NAMES), st.tuples(phases, st.booleans())),
    st.dictionaries(st.sampled_from(("x", "y")), st.tuples(phases, st.booleans())),
)
records = st.dictionaries(
    st.sampled_from(NAMES),
    st.sampled_from(("running", "completed", "preempted", "failed", "extended")).map(RunFacts),
)
retries = st.frozensets(st.sampled_from(NAMES))


@given(snapshots, records, retries, st.integers(1, 10))
def test_there_are_never_more_than_asked(
    snapshot: Snapshot, runs: dict[str, RunFacts], retried: frozenset[str], max_running: int
):
    admitted = admit(sort_out(JOBS, snapshot, runs, retried), snapshot, max_running)
    assert not admitted or snapshot.num_active + len(admitted) <= max_running
    for decision in admitted:
        state = snapshot.state(decision.name)
        run = runs.get(decision.name)
        succeeded = state.phase is Phase.SUCCEEDED and run != RunFacts("extended")
        done = succeeded or run == RunFacts("completed")
        assert not done and not state.is_active
        failed = state.phase is Phase.FAILED or runs.get(decision.name) == RunFacts("failed")
        assert not failed or decision.name in retried


@given(snapshots, records, retries)
def test_with_room_for_all_nothing_waits_but_for_pods_that_end(
    snapshot: Snapshot, runs: dict[str, RunFacts], retried: frozenset[str]
):
    decisions = sort_out(JOBS, snapshot, runs, retried)
    waiting = {decision.name for decision in decisions if decision.action is JobAction.WAITING}
    left = waiting - {decision.name for decision in admit(decisions, snapshot, 100)}
    assert all(snapshot.state(name).is_active for name in left)


def test_a_job_that_runs_from_another_manifest_is_told_of():
    changed = Manifest("k8s", {"metadata": {"name": "a"}, "spec": {"backoffLimit": 4}})
    held = {"spec": {"backoffLimit": 3}}
    running = Snapshot({"a": JobState("a", Phase.RUNNING)}, {"a": held})
    (decision,) = sort_out([changed], running, {})
    assert (decision.action, decision.why) == (JobAction.CHANGED, "spec.backoffLimit")
    done = Snapshot({"a": JobState("a", Phase.SUCCEEDED)}, {"a": held})
    assert sort_out([changed], done, {})[0].action is JobAction.DONE


def test_what_an_index_of_another_job_trains_is_not_trained_twice():
    annotations = {"rsdl/config": "cnn_ucm"}
    job = Manifest("k8s", {"metadata": {"name": "a", "annotations": annotations}, "spec": {}})

    def action(phase: Phase, config: str = "cnn_ucm") -> JobAction:
        state = JobState("s-indexed[3]", phase, config=config)
        snapshot = Snapshot({state.name: state}, {"s-indexed": {"spec": {}}})
        (decision,) = sort_out([job], snapshot, {})
        assert decision.action is not JobAction.THERE or "s-indexed[3] trains it" in decision.why
        return decision.action

    assert action(Phase.RUNNING) is action(Phase.PENDING) is action(Phase.ENDING) is JobAction.THERE
    assert action(Phase.SUCCEEDED) is JobAction.DONE
    assert action(Phase.FAILED) is action(Phase.RUNNING, "vit_ucm") is JobAction.WAITING


def test_a_completed_run_that_its_config_extends_waits_whatever_became_of_its_job():
    def action(phase: Phase, status: str) -> JobAction:
        found = {} if phase is Phase.ABSENT else {"a": JobState("a", phase)}
        snapshot = Snapshot(found, {name: {"spec": {}} for name in found})
        (decision,) = sort_out(JOBS[:1], snapshot, {"a": RunFacts(status)})
        return decision.action

    for phase in (Phase.ABSENT, Phase.SUCCEEDED):
        assert action(phase, "extended") is JobAction.WAITING
        assert action(phase, "completed") is JobAction.DONE
    assert action(Phase.RUNNING, "extended") is JobAction.THERE
