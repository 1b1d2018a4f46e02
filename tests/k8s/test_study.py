"""``kubectl apply -k k8s/`` is the whole study, and every other folder builds too."""

import os
import subprocess
from pathlib import Path

import pytest
import torch
import yaml
from yamllint import linter
from yamllint.config import YamlLintConfig

from rsdl.cluster import labels
from rsdl.cluster.load import Manifest
from rsdl.cluster.nautilus import CARDS, GPUS
from rsdl.cluster.wheels import WHEELS
from rsdl.config.load import fill_in, merge_config, parse_config
from rsdl.config.run import RunConfig
from rsdl.data.sources.catalog import DATASETS
from rsdl.models.catalog import ARCHITECTURES
from tests.k8s.conftest import K8S, Build
from tests.k8s.kubelet import Cluster, Process, start
from tests.k8s.rules import check_card, check_jobs, check_objects, cluster_of, expressions, pod_of

STUDY = [f"{name}_{data}" for name in ARCHITECTURES for data in ("ucm", "aid", "resisc45")]
OTHERS = {
    "segmentation": ("loveda", "potsdam", "burned"),
    "detection": ("dota", "xview", "rareplanes"),
}
FOLDERS = (
    "",
    "base",
    "base/volumes",
    "data",
    "dev",
    "predict",
    "jobs/quickstart",
    "jobs/vit_base_aid",
)
SHARED = {
    labels.NAME: "rsdl",
    labels.COMPONENT: "train",
    labels.PART_OF: "hrrsi",
    labels.STUDY: "hrrsi",
    labels.MANAGED_BY: "kustomize",
}


def test_the_study_is_27_jobs_and_what_they_share(build: Build, jobs: list[Manifest]):
    wanted = sorted(labels.job_name("hrrsi", name) for name in STUDY)
    assert sorted(job.name for job in jobs) == wanted
    others = {each.title for each in build("") if each.kind not in ("Job", "ConfigMap")}
    assert others == {"ServiceAccount/rsdl", "Service/rsdl"}
    maps = [each for each in build("") if each.kind == "ConfigMap"]
    assert sorted(each.name.rpartition("-")[0] for each in maps) == wanted
    assert all(each.body["immutable"] is True for each in maps)
    assert {each.namespace for each in build("")} == {"rsdl"}
    (account,) = [each for each in build("") if each.kind == "ServiceAccount"]
    assert account.body["automountServiceAccountToken"] is False


@pytest.mark.parametrize("path", FOLDERS)
def test_every_folder_keeps_the_rules(build: Build, path: str):
    check_objects(build(path))


def test_every_job_trains_its_config(build: Build):
    for job, process in check_jobs(build("")):
        name = job.annotations[labels.CONFIG]
        assert name in STUDY
        check_config(process, name)
        assert process.environment["RSDL_RUNS"] == "s3://rsdl/runs/hrrsi"
        assert process.environment["RSDL_DATA"] == "s3://rsdl/data"


@pytest.mark.parametrize("task", OTHERS)
def test_the_study_of_another_task_is_27_jobs_with_runs_of_its_own(build: Build, task: str):
    objects, study = build(f"studies/{task}"), f"hrrsi-{task}"
    trained = set()
    for job, process in check_jobs(objects):
        name = job.annotations[labels.CONFIG]
        trained.add(name)
        run = check_config(process, name, task)
        assert job.name == labels.job_name(study, name) and job.labels[labels.STUDY] == study
        assert run.task.name == task and run.data.image_size == sizes_of(name)
    assert trained == {f"{name}_{data}" for name in ARCHITECTURES for data in OTHERS[task]}
    # The base is that of k8s/, and no Job or config is.
    shared = {each.title for each in objects} & {each.title for each in build("")}
    assert shared == {"ServiceAccount/rsdl", "Service/rsdl"}


def sizes_of(name: str) -> int:
    return {"dota": 1024, "burned": 224}.get(name.rpartition("_")[2], 512)


@pytest.mark.parametrize("name", ["maxvit_small_dota", "swin_base_dota", "maxvit_small_loveda"])
def test_what_24_gb_cannot_train_asks_for_a_larger_gpu(build: Build, name: str):
    (job,) = [each for each in build(f"jobs/{name}") if each.kind == "Job"]
    limits = pod_of(job)["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/a40"] == "1" and "nvidia.com/gpu" not in limits


def check_config(process: Process, name: str, task: str = "") -> RunConfig:
    """Check that what is mounted trains what the config of that name says, on a GPU; return it."""
    places = process.environment
    mounted = parse_config(process.files["/config/config.yaml"], "x")
    wanted = merge_config(f"{K8S.parent}/configs/{task}/{name}.yaml")
    run, plain = (fill_in(tree, "x", places) for tree in (mounted, wanted))
    assert run.trainer.accelerator == "gpu" and plain.trainer.accelerator == "auto"
    assert (
        run.data.cache != "none"
        and places["RSDL_CACHE_SIZE"] == f"{run.data.cache.size / 10**9:g}GB"
    )
    same = {"trainer": plain.trainer, "data": plain.data}
    assert run.model_copy(update=same) == plain
    study = f"hrrsi-{task}" if task else "hrrsi"
    assert run.output == f"s3://rsdl/runs/{study}" and run.data.url.startswith("s3://rsdl/data/")
    return run


def test_the_image_s_pytorch_is_that_of_the_table():
    flags = torch._C._cuda_getArchFlags()
    found = {divmod(int(flag.removeprefix("sm_")), 10) for flag in flags.split()}
    # Whichever of the locks this environment is of.
    (wheel,) = (each for each in WHEELS.values() if each.cuda == torch.version.cuda)
    assert found == set(wheel.architectures)
    assert torch.__version__.partition("+")[0] == wheel.torch


def test_a_card_without_code_is_refused():
    v100 = next(card for card in CARDS if card.product.startswith("Tesla-V100"))
    assert not WHEELS["13"].runs_on(v100.capability)
    assert WHEELS["12"].runs_on(v100.capability)
    for product, runs in (("NVIDIA-L4", True), ("NVIDIA-H200", True), ("NVIDIA-TITAN-V", False)):
        card = next(card for card in CARDS if card.product == product)
        assert WHEELS["13"].runs_on(card.capability) == runs
    offered = {card.product for gpu in GPUS.values() for card in gpu.cards}
    assert {"NVIDIA-RTX-A5000", "NVIDIA-RTX-6000-Ada-Generation"} <= offered
    assert not any("V100" in product for product in offered)


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


def test_the_quickstart_asks_for_no_gpu(build: Build):
    ((job, process),) = check_jobs(build("jobs/quickstart"))
    assert not any("nvidia" in key for key in expressions(pod_of(job)))
    run = fill_in(parse_config(process.files["/config/config.yaml"], "x"), "x", process.environment)
    assert (run.output, run.data.url) == ("s3://rsdl/runs/hrrsi", "s3://rsdl/data/quickstart")
    assert pod_of(job)["containers"][0]["resources"]["limits"]["memory"] == "4Gi"


def test_each_index_of_the_data_job_has_its_data_set(build: Build):
    (job,) = build("data")
    spec = job.body["spec"]
    assert spec["completionMode"] == "Indexed" and spec["backoffLimitPerIndex"] > 0
    process = start(job, cluster_of(build("")), 1)
    script = process.arguments[0]
    names = script.splitlines()[0].removeprefix("set -- ").split()
    assert len(names) == spec["completions"] == spec["parallelism"]
    assert set(names) - {"quickstart"} <= set(DATASETS) and "$(" not in script
    # What is given out by hand alone would fail the Job for good.
    assert all(DATASETS[name].url for name in names if name != "quickstart")
    assert job.labels[labels.COMPONENT] == "data"


def test_each_index_maps_its_part_of_the_scenes(build: Build, tmp_path: Path):
    (job,) = build("predict")
    check_card(job)
    assert job.labels[labels.COMPONENT] == "predict"  # and not one of the study's Jobs
    spec = job.body["spec"]
    assert spec["completionMode"] == "Indexed" and spec["completions"] == 8
    (tmp_path / "rsdl").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "rsdl").chmod(0o755)
    for index in range(8):
        process = start(job, cluster_of(build("")), index)
        path = f"{tmp_path}:{os.environ['PATH']}"
        index_of = {"JOB_COMPLETION_INDEX": str(index), "PATH": path}  # the first by Kubernetes
        said = subprocess.run(
            [*process.command, *process.arguments], env=process.environment | index_of,
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert said.stdout.split() == [
            "predict", "s3://rsdl/runs/hrrsi-segmentation/swin_base_loveda", "s3://rsdl/scenes",
            "--out", "s3://rsdl/maps/hrrsi", "--device", "cuda", "--part", f"{index + 1}/8",
        ]  # fmt: skip


def test_the_example_of_a_secret_holds_what_pods_ask_for(build: Build, jobs: list[Manifest]):
    text = (K8S / "base" / "s3-secret.example.yaml").read_text()
    secret = yaml.safe_load(text)
    check_objects([Manifest("x", secret)])
    cluster = Cluster.of(build(""), {secret["metadata"]["name"]: secret["stringData"]})
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
