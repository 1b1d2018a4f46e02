"""``rsdl sweep armada``: the runs that are left as a job set, and how its pods are told of."""

from pathlib import Path

import pytest
import yaml

from rsdl.cluster.labels import CONFIG, STUDY
from rsdl.cluster.load import Manifest
from rsdl.commands.k8s import render
from rsdl.commands.k8s_check import check_set
from rsdl.commands.sweep.armada import write_job_set
from rsdl.commands.sweep.scope import JobSelector
from rsdl.core.errors import ConfigError
from tests.integration.cluster.apiserver import ApiServer
from tests.integration.cluster.conftest import CONFIGS, write_record, write_study
from tests.integration.cluster.world import World

CONFIGS_HERE = Path(__file__).parents[3] / "configs"


@pytest.fixture
def rendered(tmp_path: Path) -> str:
    """Return the folder of the whole study, as it is written for the namespace of the tests."""
    folder = str(tmp_path / "rendered")
    assert render([], out=folder, changes=["namespace=study"], folder=str(CONFIGS_HERE)) == 0
    return folder


def test_a_job_set_holds_the_pods_of_the_runs_that_are_left(
    api: ApiServer,
    world: World,
    rendered: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    runs, out = str(tmp_path / "runs"), tmp_path / "armada.yaml"
    write_record(runs, "resnet50_ucm")
    write_record(runs, "vit_base_aid", "failed")
    assert write_job_set(JobSelector(rendered), runs, str(out)) == 0
    assert "1 of 27 runs are completed, 26 are left" in capsys.readouterr().out
    # What the pods mount is there before Armada starts one; no Job is.
    kinds = {resource for resource, _, _ in world.objects}
    assert {"configmaps", "serviceaccounts"} <= kinds and "jobs" not in kinds
    page = yaml.safe_load(out.read_text())
    assert (page["queue"], page["jobSetId"], len(page["jobs"])) == ("study", "hrrsi", 26)
    maps = {name for resource, _, name in world.objects if resource == "configmaps"}
    for item in page["jobs"]:
        assert set(item) == {"namespace", "labels", "annotations", "podSpec"}
        assert item["namespace"] == "study" and item["labels"][STUDY] == "hrrsi"
        assert item["annotations"][CONFIG] != "resnet50_ucm"
        pod = item["podSpec"]
        assert (pod["priorityClassName"], pod["restartPolicy"]) == ("armada-default", "Never")
        assert pod["activeDeadlineSeconds"] == 168 * 3600
        mounted = [each["configMap"]["name"] for each in pod["volumes"] if "configMap" in each]
        assert len(mounted) == 1 and mounted[0] in maps
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": pod}
        found = check_set([Manifest("armada.yaml", body)], "none")
        assert {each.severity for each in found} <= {"note"}
        # Every user of the cluster may read a job set: keys stay in their secret.
        keys = [each for each in pod["containers"][0]["env"] if "SECRET" in each["name"]]
        assert len(keys) == 1 and "secretKeyRef" in keys[0]["valueFrom"]


def test_a_study_that_is_completed_leaves_nothing_to_submit(
    api: ApiServer, world: World, study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    runs, out = str(tmp_path / "runs"), tmp_path / "armada.yaml"
    for config in CONFIGS:
        write_record(runs, config)
    assert write_job_set(JobSelector(str(study), "study"), runs, str(out)) == 0
    assert "6 of 6 runs are completed, 0 are left" in capsys.readouterr().out
    assert not out.exists() and not world.objects


def test_a_dry_run_changes_nothing(
    api: ApiServer,
    world: World,
    rendered: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    out = tmp_path / "armada.yaml"
    options = {"preemptible": True, "dry_run": True}
    assert write_job_set(JobSelector(rendered), str(tmp_path), str(out), **options) == 0
    assert "Job/hrrsi-vit-base-aid: would be in" in capsys.readouterr().out
    assert not out.exists() and not world.objects


def test_what_armada_cannot_run_is_refused(api: ApiServer, world: World, tmp_path: Path):
    out = str(tmp_path / "armada.yaml")
    study = write_study(tmp_path / "nameless")
    with pytest.raises(ConfigError, match="a queue is one namespace; set it"):
        write_job_set(JobSelector(str(study)), str(tmp_path), out)
    job = yaml.safe_load((study / "cnn_aid.yaml").read_text())
    job["metadata"]["namespace"] = "study"
    job["spec"] |= {"completions": 2, "parallelism": 2, "completionMode": "Indexed"}
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(job))
    with pytest.raises(ConfigError, match="Job/cnn-aid: runs 2 pods"):
        write_job_set(JobSelector(str(tmp_path / "two.yaml")), str(tmp_path), out)
    assert not world.objects
