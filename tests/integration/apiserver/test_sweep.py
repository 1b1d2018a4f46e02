"""``rsdl sweep`` on a real API server with its Job controller; a test plays the nodes alone."""

import json
import threading
from pathlib import Path

import pytest

from rsdl.cluster.labels import plain
from rsdl.commands.k8s import render
from rsdl.commands.sweep.cancel import CancelOptions, cancel
from rsdl.commands.sweep.collect import collect
from rsdl.commands.sweep.scope import JobSelector
from rsdl.commands.sweep.status import status
from rsdl.commands.sweep.submission import SubmitOptions
from rsdl.commands.sweep.submit import submit
from rsdl.core.errors import ConfigError, OldClusterError
from tests.integration.apiserver.conftest import CONFIGS as CONFIG_FILES
from tests.integration.apiserver.conftest import kubectl, render_study
from tests.integration.apiserver.nodes import Nodes, working
from tests.integration.apiserver.plane import Object, Space, wait_for
from tests.integration.cluster.conftest import CONFIGS, write_study
from tests.integration.cluster.test_collect import write_run

pytestmark = pytest.mark.apiserver

JOBS = {plain(config): config for config in CONFIGS}
ALL = JobSelector()


def states(capsys: pytest.CaptureFixture[str], selector: JobSelector = ALL) -> dict[str, Object]:
    """Return what ``rsdl sweep status`` says of the cluster, by config."""
    capsys.readouterr()
    assert status(None, selector, as_json=True) == 0
    return {row["run"]: row for row in json.loads(capsys.readouterr().out)["runs"]}


def options(max_running: int, **fields: bool) -> SubmitOptions:
    return SubmitOptions(max_running, every_s=0.2, **fields)


def test_the_whole_study_to_its_end_and_never_more_than_asked(
    space: Space, nodes: Nodes, rendered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """27 Jobs as they are committed, one of them completed before, and a preemption for two."""
    runs = tmp_path / "runs"
    write_run(runs, "resnet50_ucm")
    nodes.on_success = lambda job: write_run(runs, config_of(job))
    nodes.fates = {f"hrrsi-vit-base-{data}": ["preempt", "succeed"] for data in ("ucm", "aid")}
    with working(nodes):
        assert submit(JobSelector(str(rendered)), options(9), runs=str(runs)) == 0
        said = capsys.readouterr().out
        wait_for(lambda: all(map(is_complete, space.list("batch/jobs"))))
    assert nodes.most <= 9
    made = space.names("batch/jobs")
    assert len(made) == 26 and "hrrsi-resnet50-ucm" not in made
    assert said.count("drops podFailurePolicy, podReplacementPolicy: preemptions and") == 1
    assert "27 Jobs: 1 completed, 26 submitted" in said
    rows = states(capsys, JobSelector(str(rendered)))
    assert {row["cluster"] for name, row in rows.items() if name != "resnet50_ucm"} == {"succeeded"}
    assert rows["vit_base_ucm"]["preemptions"] == 1
    assert collect(str(runs), str(tmp_path / "models"), manifests=str(rendered)) == 0
    assert "27 models with their records" in capsys.readouterr().out


def config_of(job: str) -> str:
    """Return the config of one of the committed study's Jobs."""
    return job.removeprefix("hrrsi-").replace("-", "_")


def is_complete(job: Object) -> bool:
    conditions = job["status"].get("conditions", ())
    return any(c["type"] == "Complete" and c["status"] == "True" for c in conditions)


def test_two_who_submit_at_once_make_each_job_once(space: Space, nodes: Nodes):
    write_study(Path("study"))
    codes: list[int] = []
    with working(nodes):
        crew = [
            threading.Thread(target=lambda: codes.append(submit(JobSelector("study"), options(3))))
            for _ in range(2)
        ]
        for each in crew:
            each.start()
        for each in crew:
            each.join()
        wait_for(lambda: all(map(is_complete, space.list("batch/jobs"))))
    assert codes == [0, 0]
    assert space.names("batch/jobs") == set(JOBS) and len(space.list("v1/pods")) == 6


def test_one_study_is_not_the_other(
    space: Space, nodes: Nodes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Two studies of the same configs, the first as an Indexed Job, in one namespace."""
    first = render_study(tmp_path / "first", space)
    second = render_study(tmp_path / "second", space, "study=second")
    kubectl("apply", "--validate=ignore", "-k", first / "base")
    kubectl("apply", "--validate=ignore", "-k", first / "indexed")
    nodes.usual = "hang"
    one, other = JobSelector(str(first)), JobSelector(str(second))
    assert submit(other, options(2, wait=False)) == 0
    # The Indexed Job trains what the 27 Jobs would.
    assert submit(one, options(99, wait=False)) == 0
    assert "hrrsi-indexed[0] trains it" in capsys.readouterr().out
    everything = CancelOptions(everything=True, yes=True, every_s=0.2)
    with working(nodes):
        wait_for(lambda: len([pod for pod in space.list("v1/pods") if is_running(pod)]) == 2 + 9)
        assert {row["cluster"] for row in states(capsys, one).values()} == {"pending"}
        assert cancel([], other, everything) == 0
        assert "2 Jobs are gone" in capsys.readouterr().out
        assert space.names("batch/jobs") == {"hrrsi-indexed"} and len(nodes.saved) == 2
        assert len([pod for pod in space.list("v1/pods") if is_running(pod)]) == 9
        with pytest.raises(ConfigError, match="is an index of a Job, which ends as a whole"):
            cancel(["vit_base_ucm"], one, CancelOptions(yes=True))
        assert cancel([], one, everything) == 0
    assert space.list("batch/jobs") == [] and len(nodes.saved) == 2 + 9
    assert {row["cluster"] for row in states(capsys, one).values()} == {"absent"}


def is_running(pod: Object) -> bool:
    running: bool = pod["status"]["phase"] == "Running"
    return running


def test_a_job_that_would_be_another_there_is_refused(space: Space, tmp_path: Path):
    """Without indexes the pods of several nodes would all be the first."""
    changes = (f"namespace={space.name}", "nodes=2")
    render((), out=str(tmp_path / "k8s"), changes=changes, folder=CONFIG_FILES)
    with pytest.raises(OldClusterError, match=r"older than 1\.31 and knows no completionMode"):
        submit(JobSelector(str(tmp_path / "k8s" / "jobs" / "vit_base_ucm")), options(9, wait=False))
    assert space.list("batch/jobs") == []
