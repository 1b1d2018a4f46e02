"""The manifests of this repository, submitted as a user would, through the real kubectl."""

import subprocess
from pathlib import Path

import pytest

from rsdl.cluster.labels import job_name
from rsdl.cluster.load import load_manifests
from rsdl.commands.sweep.scope import JobSelector, find_scope, runs_of
from rsdl.commands.sweep.submission import SubmitOptions
from rsdl.commands.sweep.submit import submit
from tests.integration.cluster.apiserver import ApiServer
from tests.integration.cluster.conftest import write_record
from tests.integration.cluster.world import World

K8S = Path(__file__).parents[3] / "k8s"
CONFIGS = sorted(path.parent.name for path in K8S.glob("jobs/*_*/kustomization.yaml"))


@pytest.fixture
def api(api: ApiServer) -> ApiServer:
    """Return the server of a cluster that has the namespace of the study."""
    api.namespaces |= {each.namespace for each in load_manifests(str(K8S)) if each.namespace}
    return api


def test_the_study_is_submitted_to_its_end_never_more_than_asked(
    api: ApiServer, world: World, tmp_path: Path
):
    assert len(CONFIGS) == 27
    runs = str(tmp_path / "runs")
    write_record(runs, CONFIGS[0])
    code = submit(JobSelector(str(K8S)), SubmitOptions(9, every_s=0.01), runs=runs)
    assert code == 0
    assert sorted(world.created) == [job_name("hrrsi", config) for config in CONFIGS[1:]]
    assert world.max_active <= 9


def test_kubectl_applies_the_whole_folder(api: ApiServer, world: World):
    command = ["kubectl", "apply", "--validate=false", "-k", str(K8S)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("job.batch/") == 27 == len(world.created)


def test_where_its_runs_lie_is_told_as_a_url():
    scope = find_scope(JobSelector(str(K8S)))
    assert runs_of((*scope.jobs, *scope.others)) == "s3://rsdl/runs/hrrsi"
