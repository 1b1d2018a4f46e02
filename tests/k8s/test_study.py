"""``kubectl apply -k k8s/`` is the whole study, and every other folder builds too."""

from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from yamllint import linter
from yamllint.config import YamlLintConfig

from rsdl.cluster import labels
from rsdl.cluster.manifest import Manifest
from rsdl.data.sources.catalog import DATASETS
from rsdl.models.catalog import ARCHITECTURES
from tests.k8s.conftest import K8S, Build
from tests.k8s.kubelet import Cluster, start
from tests.k8s.rules import check_confined, check_job, check_resources, check_schema, expressions

STUDY = [f"{name}_{data}" for name in ARCHITECTURES for data in ("ucm", "aid", "resisc45")]
FOLDERS = ("", "base", "base/volumes", "data", "dev", "jobs/quickstart", "jobs/vit_base_aid")
SHARED = {
    labels.NAME: "rsdl",
    labels.COMPONENT: "train",
    labels.PART_OF: "hrrsi",
    labels.STUDY: "hrrsi",
    labels.MANAGED_BY: "kustomize",
}


def test_the_study_is_27_jobs_and_what_they_share(build: Build, jobs: list[Manifest]):
    assert sorted(job.name for job in jobs) == sorted(map(labels.job_name, STUDY))
    others = {each.title for each in build("") if each.kind != "Job"}
    assert others == {"ServiceAccount/rsdl", "ConfigMap/rsdl-settings", "Service/rsdl"}
    assert {each.namespace for each in build("")} == {"rsdl"}
    (account,) = [each for each in build("") if each.kind == "ServiceAccount"]
    assert account.body["automountServiceAccountToken"] is False


def test_every_job_keeps_the_rules(jobs: list[Manifest], cluster: Cluster):
    for job in jobs:
        process = check_job(job, cluster)
        name = job.annotations[labels.CONFIG]
        assert process.arguments[1] == f"configs/{name}.yaml" and name in STUDY
        assert (Path(K8S).parent / process.arguments[1]).is_file()
        assert process.environment["RSDL_RUNS"] == "s3://rsdl/runs/hrrsi"
        assert process.environment["RSDL_DATA"] == "s3://rsdl/data"


def test_jobs_and_their_pods_are_labelled(jobs: list[Manifest]):
    for job in jobs:
        architecture, _, dataset = job.annotations[labels.CONFIG].rpartition("_")
        own = {
            labels.INSTANCE: job.name,
            labels.ARCHITECTURE: architecture,
            labels.DATASET: dataset,
        }
        template = job.body["spec"]["template"]["metadata"]
        for found in (job.labels, template["labels"]):
            assert found.items() >= (SHARED | own).items()
            assert labels.VERSION in found
        assert template["annotations"][labels.CONFIG] == job.annotations[labels.CONFIG]


@pytest.mark.parametrize("path", FOLDERS)
def test_every_object_fits_the_schema(build: Build, path: str):
    for manifest in build(path):
        check_schema(manifest)


def test_the_schema_refuses_what_is_wrong(jobs: list[Manifest]):
    body = yaml.safe_load(yaml.safe_dump(dict(jobs[0].body)))
    body["spec"]["template"]["spec"]["restartPolicies"] = "Never"
    with pytest.raises(kubernetes_validate.ValidationError):
        check_schema(Manifest("x", body))


def test_the_quickstart_asks_for_no_gpu(build: Build, cluster: Cluster):
    (job,) = build("jobs/quickstart")
    process = check_job(job, cluster)
    assert not any("nvidia" in key for key in expressions(job.body["spec"]["template"]["spec"]))
    assert process.arguments[3:] == [
        "output=s3://rsdl/runs/hrrsi",
        "data.url=s3://rsdl/data/quickstart",
    ]


def test_each_index_of_the_data_job_has_its_data_set(build: Build, cluster: Cluster):
    (job,) = build("data")
    spec = job.body["spec"]
    assert spec["completionMode"] == "Indexed" and spec["backoffLimitPerIndex"] > 0
    process = start(job, cluster, 1)
    script = process.arguments[0]
    names = script.splitlines()[0].removeprefix("set -- ").split()
    assert len(names) == spec["completions"] == spec["parallelism"]
    assert set(names) - {"quickstart"} <= set(DATASETS) and "$(" not in script
    pod = spec["template"]["spec"]
    check_confined(pod, pod["containers"][0])
    check_resources(pod, pod["containers"][0])
    assert job.labels[labels.COMPONENT] == "data"


def test_the_development_pod_keeps_within_what_bare_pods_may(build: Build):
    (pod,) = build("dev")
    assert pod.kind == "Pod" and pod.body["spec"]["activeDeadlineSeconds"] <= 6 * 3600
    (container,) = pod.body["spec"]["containers"]
    check_confined(pod.body["spec"], container)
    check_resources(pod.body["spec"], container)
    limits = container["resources"]["limits"]
    assert int(limits["cpu"]) <= 16 and int(limits["memory"].removesuffix("Gi")) * 1.074 <= 32
    assert sum(int(n) for name, n in limits.items() if name.startswith("nvidia.com/")) <= 2
    assert "sleep" not in str(container)


def test_a_job_folder_is_a_few_lines():
    for name in STUDY:
        files = list((K8S / "jobs" / name).iterdir())
        assert [file.name for file in files] == ["kustomization.yaml"]
        assert len(files[0].read_text().splitlines()) <= 45


def test_the_example_of_a_secret_holds_what_pods_ask_for(build: Build, jobs: list[Manifest]):
    text = (K8S / "base" / "s3-secret.example.yaml").read_text()
    secret = yaml.safe_load(text)
    check_schema(Manifest("x", secret))
    cluster = Cluster.of(build("base"), {secret["metadata"]["name"]: secret["stringData"]})
    assert start(jobs[0], cluster).environment["AWS_ACCESS_KEY_ID"].startswith("YOUR")
    assert "Secret" not in {each.kind for path in FOLDERS for each in build(path)}


def test_yaml_is_clean():
    config = YamlLintConfig(file=str(K8S.parent / ".yamllint"))
    problems = [
        f"{path}: {problem}"
        for path in sorted(K8S.rglob("*.yaml"))
        for problem in linter.run(path.read_text(), config)
    ]
    assert not problems
