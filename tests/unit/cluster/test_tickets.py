"""What becomes of each Job, whatever the cluster and the records say."""

from hypothesis import given
from hypothesis import strategies as st

from rsdl.cluster.jobs import Snapshot
from rsdl.cluster.manifest import Manifest
from rsdl.cluster.states import JobState, Phase
from rsdl.cluster.tickets import Lot, RunFacts, admit, sort_out

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
    st.sampled_from(("running", "completed", "preempted", "failed")).map(RunFacts),
)
retries = st.frozensets(st.sampled_from(NAMES))


@given(snapshots, records, retries, st.integers(1, 10))
def test_there_are_never_more_than_asked(
    snapshot: Snapshot, runs: dict[str, RunFacts], retried: frozenset[str], max_running: int
):
    admitted = admit(sort_out(JOBS, snapshot, runs, retried), snapshot, max_running)
    assert not admitted or snapshot.num_active + len(admitted) <= max_running
    for ticket in admitted:
        state = snapshot.state(ticket.name)
        done = state.phase is Phase.SUCCEEDED or runs.get(ticket.name) == RunFacts("completed")
        assert not done and not state.is_active
        failed = state.phase is Phase.FAILED or runs.get(ticket.name) == RunFacts("failed")
        assert not failed or ticket.name in retried


@given(snapshots, records, retries)
def test_with_room_for_all_nothing_waits_but_for_pods_that_end(
    snapshot: Snapshot, runs: dict[str, RunFacts], retried: frozenset[str]
):
    tickets = sort_out(JOBS, snapshot, runs, retried)
    waiting = {ticket.name for ticket in tickets if ticket.lot is Lot.WAITING}
    left = waiting - {ticket.name for ticket in admit(tickets, snapshot, 100)}
    assert all(snapshot.state(name).is_active for name in left)


def test_a_job_that_runs_from_another_manifest_is_told_of():
    changed = Manifest("k8s", {"metadata": {"name": "a"}, "spec": {"backoffLimit": 4}})
    held = {"spec": {"backoffLimit": 3}}
    running = Snapshot({"a": JobState("a", Phase.RUNNING)}, {"a": held})
    (ticket,) = sort_out([changed], running, {})
    assert (ticket.lot, ticket.why) == (Lot.CHANGED, "spec.backoffLimit")
    done = Snapshot({"a": JobState("a", Phase.SUCCEEDED)}, {"a": held})
    assert sort_out([changed], done, {})[0].lot is Lot.DONE


def test_what_an_index_of_another_job_trains_is_not_trained_twice():
    annotations = {"rsdl/config": "cnn_ucm"}
    job = Manifest("k8s", {"metadata": {"name": "a", "annotations": annotations}, "spec": {}})

    def lot(phase: Phase, config: str = "cnn_ucm") -> Lot:
        state = JobState("s-indexed[3]", phase, config=config)
        snapshot = Snapshot({state.name: state}, {"s-indexed": {"spec": {}}})
        (ticket,) = sort_out([job], snapshot, {})
        assert ticket.lot is not Lot.THERE or "s-indexed[3] trains it" in ticket.why
        return ticket.lot

    assert lot(Phase.RUNNING) is lot(Phase.PENDING) is lot(Phase.ENDING) is Lot.THERE
    assert lot(Phase.SUCCEEDED) is Lot.DONE
    assert lot(Phase.FAILED) is lot(Phase.RUNNING, "vit_ucm") is Lot.WAITING
