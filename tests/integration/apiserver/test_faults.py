"""Who may do what, and what goes wrong meanwhile: rights, quotas, tokens, a server that is away."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from rsdl.commands.sweep.cancel import CancelOptions, cancel
from rsdl.commands.sweep.scope import JobSelector
from rsdl.commands.sweep.status import status
from rsdl.commands.sweep.submit import submit
from rsdl.core.errors import ClusterError, UnreachableClusterError
from tests.integration.apiserver.conftest import MEMBER, make_space
from tests.integration.apiserver.nodes import Nodes, working
from tests.integration.apiserver.plane import Plane, Space, wait_for
from tests.integration.apiserver.test_sweep import ALL, JOBS, is_complete, options, states
from tests.integration.cluster.conftest import write_study
from tests.integration.conftest import Rsdl

pytestmark = pytest.mark.apiserver


@pytest.fixture
def revived(plane: Plane) -> Iterator[Plane]:
    """Return the control plane, whose API server runs again after the test."""
    yield plane
    plane.revive()


def log_in(space: Space, token: str) -> None:
    """Let kubectl in with another token."""
    space.plane.write_kubeconfig(Path("kubeconfig"), token, space.name)


def test_who_may_only_look_sees_all_and_changes_nothing(
    space: Space, capsys: pytest.CaptureFixture[str]
):
    write_study(Path("study"))
    assert submit(JobSelector("study"), options(2, wait=False)) == 0
    space.add_member("viewer", "view")
    log_in(space, space.token("viewer"))
    assert sum(row["cluster"] == "pending" for row in states(capsys).values()) == 2
    with pytest.raises(ClusterError, match=r"^kubectl create: you may not do this: jobs\.batch"):
        submit(JobSelector("study"), options(9, wait=False))
    with pytest.raises(ClusterError, match=r"^kubectl delete: you may not do this: jobs\.batch"):
        cancel([], ALL, CancelOptions(everything=True, yes=True))
    assert len(space.list("batch/jobs")) == 2


def test_the_namespace_of_others_is_closed(space: Space, plane: Plane):
    other = make_space(plane)
    with pytest.raises(ClusterError, match=r"you may not do this: .*--namespace, or ask its admin"):
        status(None, JobSelector(namespace=other.name))
    write_study(Path("study"))
    with pytest.raises(ClusterError, match=r"^kubectl get: you may not do this"):
        submit(JobSelector("study", namespace=other.name), options(9, wait=False))
    assert other.list("batch/jobs") == []


def test_a_quota_of_jobs_is_waited_for(space: Space, nodes: Nodes):
    write_study(Path("study"))
    quota = {"metadata": {"name": "jobs"}, "spec": {"hard": {"count/jobs.batch": "2"}}}
    space("POST", "v1/resourcequotas", quota)
    wait_for(lambda: space("GET", "v1/resourcequotas/jobs")["status"].get("used"))
    with pytest.raises(UnreachableClusterError, match=r"a quota is used up: .*count/jobs\.batch"):
        submit(JobSelector("study"), options(9, wait=False))
    assert len(space.list("batch/jobs")) == 2

    def make_room(job: str) -> None:
        space("PATCH", "v1/resourcequotas/jobs", {"spec": {"hard": {"count/jobs.batch": "6"}}},
              kind="merge")  # fmt: skip

    nodes.on_success = make_room
    with working(nodes):
        assert submit(JobSelector("study"), options(9)) == 0
    assert space.names("batch/jobs") == set(JOBS)


def test_a_quota_of_pods_keeps_jobs_pending(
    space: Space, nodes: Nodes, capsys: pytest.CaptureFixture[str]
):
    """Pods are made as others end: Jobs are there, and the cluster goes on by itself."""
    write_study(Path("study"), ("cnn_ucm", "vit_ucm"))
    quota = {"metadata": {"name": "memory"}, "spec": {"hard": {"requests.memory": "8Gi"}}}
    space("POST", "v1/resourcequotas", quota)
    wait_for(lambda: space("GET", "v1/resourcequotas/memory")["status"].get("used"))
    assert submit(JobSelector("study"), options(9)) == 0
    wait_for(lambda: len(space.list("v1/pods")) == 1)
    notes = {row["note"] for row in states(capsys).values()}
    assert notes == {"", "no pod yet"}
    with working(nodes):
        wait_for(lambda: all(map(is_complete, space.list("batch/jobs"))))


def test_a_token_that_expires_is_told_of_and_a_new_one_goes_on(
    space: Space, capsys: pytest.CaptureFixture[str]
):
    write_study(Path("study"))
    log_in(space, space.brief_token(MEMBER, 20))  # and some more: what is known is known for 10 s
    assert submit(JobSelector("study"), options(2, wait=False)) == 0
    told: list[str] = []

    def is_refused() -> bool:
        try:
            status(None, ALL, as_json=True)
        except ClusterError as error:
            told.append(str(error))
        return bool(told)

    wait_for(is_refused)
    assert re.match(r"kubectl get: the cluster does not know you: .*; log in again", told[0])
    with pytest.raises(ClusterError, match="the cluster does not know you"):
        submit(JobSelector("study"), options(9, wait=False))
    log_in(space, space.token(MEMBER))
    assert submit(JobSelector("study"), options(9, wait=False)) == 0
    assert space.names("batch/jobs") == set(JOBS)


def test_who_watches_is_not_left_when_the_server_goes(
    space: Space, revived: Plane, nodes: Nodes, rsdl: Rsdl, tmp_path: Path
):
    write_study(tmp_path / "study", ("cnn_ucm",))
    assert submit(JobSelector("study"), options(9)) == 0
    nodes.step()
    env = {
        "KUBECONFIG": str(tmp_path / "kubeconfig"), "KUBECACHEDIR": str(tmp_path / "kube-cache"),
    }  # fmt: skip
    command = rsdl.start("sweep", "status", "--watch", "--every", 0.2, env=env)
    command.wait_for(lambda: "cnn_ucm" in command.stdout)
    # A watch of kubectl's own beside it breaks; ours asks again and again.
    wait = ["kubectl", "wait", "--for=condition=complete", "--timeout=120s", "job/cnn-ucm"]
    beside = subprocess.Popen(wait, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    revived.kill()
    command.wait_for(lambda: "trying again" in command.stderr)
    revived.revive()
    with working(nodes):
        ended = command.wait()
    beside.communicate(timeout=130)
    assert ended.returncode == 0, ended.stderr
    assert "completed" in ended.stdout.splitlines()[-2] + ended.stdout.splitlines()[-1]
