"""The study as one Indexed Job: each index trains its config, and the cluster queues them."""

from pathlib import Path

import pytest

from rsdl.cluster import labels
from rsdl.cluster.load import Manifest, load_manifests
from rsdl.cluster.studies import study_configs
from rsdl.commands.k8s import render
from rsdl.commands.k8s_check import check_set
from rsdl.config.load import fill_in, parse_config
from rsdl.core.errors import ConfigError
from tests.k8s.conftest import K8S
from tests.k8s.kubelet import start
from tests.k8s.rules import check_card, check_objects, cluster_of

CONFIGS = str(K8S.parent / "configs")


@pytest.fixture
def indexed(kubectl: None, tmp_path: Path) -> Path:
    """Return manifests with the Indexed Job among them."""
    render((), out=str(tmp_path), folder=CONFIGS, indexed=True)
    return tmp_path


def job_of(folder: Path) -> Manifest:
    (job,) = [each for each in objects_of(folder) if each.kind == "Job"]
    return job


def test_each_index_trains_the_config_that_is_named_for_it(indexed: Path):
    job, cluster = job_of(indexed), cluster_of(objects_of(indexed))
    names = job.annotations[labels.CONFIGS].split(",")
    assert names == study_configs() and len(names) == job.body["spec"]["completions"] == 27
    for index, name in enumerate(names):
        process = start(job, cluster, index)
        assert process.arguments == ["train", f"/config/{index}.yaml"]
        text = process.files[process.arguments[1]]
        run = fill_in(parse_config(text, "x"), "x", process.environment)
        assert run.name == name and run.output == "s3://rsdl/runs/hrrsi"
        # What the 27 Jobs mount is the same.
        assert text == (indexed / "jobs" / name / "config.yaml").read_text()


def test_it_keeps_the_rules_and_takes_no_index_down_with_another(indexed: Path):
    check_objects(objects_of(indexed))
    job = job_of(indexed)
    check_card(job)
    spec = job.body["spec"]
    assert spec["completionMode"] == "Indexed" and spec["parallelism"] == 9
    assert spec["backoffLimitPerIndex"] == 6 and "backoffLimit" not in spec
    actions = {
        code: rule["action"]
        for rule in spec["podFailurePolicy"]["rules"]
        for code in rule.get("onExitCodes", {}).get("values", ())
    }
    assert actions == {69: "Ignore", 75: "Ignore", 2: "FailIndex"}
    # 27 of them, nine at a time: the deadline is that of three rounds.
    assert spec["activeDeadlineSeconds"] == 3 * 168 * 3600


def test_a_pod_is_as_large_as_the_largest_needs(indexed: Path):
    (container,) = job_of(indexed).body["spec"]["template"]["spec"]["containers"]
    asked = container["resources"]["requests"]
    for name in study_configs():
        (job,) = [m for m in load_manifests(f"{indexed}/jobs/{name}") if m.kind == "Job"]
        (alone,) = job.body["spec"]["template"]["spec"]["containers"]
        for what in ("memory", "ephemeral-storage"):
            each, all_ = (int(r[what][:-2]) for r in (alone["resources"]["requests"], asked))
            assert each <= all_


def test_settings_reach_it(indexed: Path):
    changes = ("parallelism=4", "study=second", "gpu=a40", "namespace=mine")
    render((), out=str(indexed), changes=changes, folder=CONFIGS, indexed=True)
    job = job_of(indexed)
    assert job.body["spec"]["parallelism"] == 4 and job.name == "second-indexed"
    assert job.namespace == "mine" and job.labels["rsdl/gpu"] == "a40"


def test_what_one_kind_of_pod_cannot_train_is_refused(indexed: Path):
    render(("vit_base_aid",), out=str(indexed), changes=("gpu=a40",), folder=CONFIGS)
    with pytest.raises(ConfigError, match=r"jobs\.vit_base_aid\.gpu: is its own"):
        render((), out=str(indexed), folder=CONFIGS, indexed=True)
    with pytest.raises(ConfigError, match="--indexed: is for the whole study"):
        render(("vit_base_aid",), out=str(indexed), folder=CONFIGS, indexed=True)


def test_the_config_of_every_index_is_checked(indexed: Path):
    path = indexed / "indexed" / "swin_base_aid.yaml"
    path.write_text(path.read_text().replace("batch_size: ", "batch_size: -"))
    (found,) = [v for v in check_set(objects_of(indexed), "nautilus") if v.severity != "note"]
    number = study_configs().index("swin_base_aid")
    assert found.rule == "config-invalid" and f"{number}.yaml: " in found.problem
    assert "data.batch_size" in found.problem


def objects_of(folder: Path) -> list[Manifest]:
    return load_manifests(f"{folder}/indexed")
