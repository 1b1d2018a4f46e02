"""What is set in one place reaches every Job, by rsdl and by kustomize alike."""

import shutil
from pathlib import Path

import pytest
import yaml

from rsdl.cluster.load import Manifest, load_manifests
from rsdl.cluster.nautilus import GPUS
from rsdl.cluster.settings import load_settings
from rsdl.commands.k8s import render
from rsdl.core.errors import ConfigError, ConfigErrors
from tests.k8s.conftest import K8S
from tests.k8s.kubelet import Process
from tests.k8s.rules import check_jobs, expressions, gpus

CONFIGS = str(K8S.parent / "configs")
IMAGE = "registry.example.org/me/rsdl:2.0"


def set_all(folder: Path, *changes: str, configs: tuple[str, ...] = ()) -> None:
    assert render(configs, out=str(folder), changes=changes, folder=CONFIGS) == 0


def jobs_of(folder: Path, cuda: str = "13") -> list[tuple[Manifest, Process]]:
    return list(check_jobs(load_manifests(str(folder)), cuda))


def test_settings_reach_every_job(folder: Path):
    digest = f"registry.example.org/me/rsdl@sha256:{'a' * 64}"
    set_all(
        folder, f"image={digest}", "namespace=mine", "bucket=my-bucket", "region=east",
        "study=second", "gpu=a40", "gpus=2", "opportunistic=true", "deadline_hours=24",
    )  # fmt: skip
    jobs = jobs_of(folder)
    assert len(jobs) == 27
    for job, process in jobs:
        pod = job.body["spec"]["template"]["spec"]
        assert pod["containers"][0]["image"] == digest and job.namespace == "mine"
        assert process.environment["RSDL_RUNS"] == "s3://my-bucket/runs/second"
        assert process.environment["AWS_ENDPOINT_URL_S3"].endswith("easts3.rook-east")
        assert gpus(job) == {"nvidia.com/a40": 2}
        assert pod["priorityClassName"] == "opportunistic"
        assert job.labels["rsdl/study"] == "second" and job.name.startswith("second-")
        assert job.body["spec"]["activeDeadlineSeconds"] == 86400
    for path in ("data", "dev", "base/volumes"):
        text = yaml.safe_dump([dict(each.body) for each in load_manifests(f"{folder}/{path}")])
        assert "namespace: mine" in text and "gitlab-registry" not in text and "west" not in text


def test_no_pod_goes_to_a_node_that_is_to_be_avoided(folder: Path):
    nodes = ["ry-gpu-01.sdsc.optiputer.net", "gpu-7"]
    set_all(folder, f"avoid_nodes=[{', '.join(nodes)}]", "gpu=a40")
    for job, _ in jobs_of(folder):
        affinity = job.body["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
        terms = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        wanted = {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": nodes}
        # Terms are alternatives: every one must say it.
        assert terms and all(wanted in term["matchExpressions"] for term in terms)
    with pytest.raises(ConfigErrors, match="avoid_nodes"):
        set_all(folder, "avoid_nodes=gpu-7")


@pytest.mark.parametrize("gpu", GPUS)
def test_an_image_with_cuda_12_runs_on_older_drivers(folder: Path, gpu: str):
    set_all(folder, "cuda=12", f"gpu={gpu}")
    assert load_settings(folder).cuda == "12"
    assert len(jobs_of(folder, cuda="12")) == 27
    (pod,) = load_manifests(str(folder / "dev"))
    assert expressions(dict(pod.body["spec"]))["nvidia.com/cuda.driver.major"] == ["524"]
    assert "580" not in (folder / "components" / f"gpu-{gpu}" / "kustomization.yaml").read_text()


def test_nothing_of_the_old_settings_is_left(folder: Path):
    old = load_settings(folder)
    set_all(folder, f"image={IMAGE}", "bucket=other-bucket", "namespace=other", "study=second")
    for path in folder.rglob("*.yaml"):
        text = path.read_text()
        assert old.image not in text, path
        assert f"namespace: {old.namespace}\n" not in text and old.study not in text, path


def test_one_config_may_have_its_own(folder: Path):
    set_all(folder, "nodes=4", "gpu=a100", configs=("vit_base_aid", f"{CONFIGS}/resnet50_ucm.yaml"))
    jobs = jobs_of(folder)
    for job, _ in jobs:
        is_own = job.name in ("hrrsi-vit-base-aid", "hrrsi-resnet50-ucm")
        assert job.body["spec"].get("completions") == (4 if is_own else None)
        assert gpus(job) == {"nvidia.com/a100" if is_own else "nvidia.com/gpu": 1}
    # Rendering all again keeps it.
    set_all(folder)
    assert jobs_of(folder) == jobs


ENTRIES = ("", "base", "base/volumes", "data", "dev", "jobs/quickstart", "jobs/vit_base_aid")


@pytest.mark.parametrize("entry", ENTRIES)
def test_kustomize_edit_of_the_settings_reaches_every_folder(folder: Path, entry: str):
    # As "kustomize edit set namespace mine" and "set image rsdl=IMAGE" leave the file.
    path = folder / "components" / "settings" / "kustomization.yaml"
    tree = yaml.safe_load(path.read_text())
    tree["namespace"] = "mine"
    name, _, tag = IMAGE.rpartition(":")
    tree["images"] = [{"name": "rsdl", "newName": name, "newTag": tag}]
    path.write_text(yaml.safe_dump(tree))
    objects = load_manifests(str(folder / entry))
    assert {each.namespace for each in objects} == {"mine"}
    for each in objects:
        if each.kind in ("Job", "Pod"):
            spec = each.body["spec"]
            pod = spec["template"]["spec"] if each.kind == "Job" else spec
            assert [container["image"] for container in pod["containers"]] == [IMAGE]


def test_two_studies_share_nothing_that_is_of_one(folder: Path, tmp_path: Path):
    second = tmp_path / "second"
    set_all(folder)
    set_all(second, "study=second", "bucket=other")
    one, other = (load_manifests(str(each)) for each in (folder, second))
    shared = {each.title for each in one} & {each.title for each in other}
    assert shared == {"ServiceAccount/rsdl", "Service/rsdl"}
    for title in shared:
        mine, theirs = ([m for m in objects if m.title == title] for objects in (one, other))
        assert dict(mine[0].body) == dict(theirs[0].body)
    for path in ("data", "dev"):
        names = [load_manifests(f"{each}/{path}")[0].title for each in (folder, second)]
        assert names[0] != names[1]
    runs = {process.environment["RSDL_RUNS"] for _, process in check_jobs(one)}
    assert runs == {"s3://rsdl/runs/hrrsi"}


def test_another_config_is_another_config_map(folder: Path):
    def mounted() -> tuple[str, str]:
        objects = load_manifests(f"{folder}/jobs/resnet50_ucm")
        map_, job = sorted(objects, key=lambda each: each.kind)
        pod = job.body["spec"]["template"]["spec"]
        (volume,) = [each for each in pod["volumes"] if "configMap" in each]
        assert volume["configMap"]["name"] == map_.name
        return job.name, map_.name

    job, before = mounted()
    set_all(folder, "overrides=[optim.lr=0.5]", configs=("resnet50_ucm",))
    assert mounted()[0] == job and mounted()[1] != before


def test_pretrained_weights_come_from_the_mirror(folder: Path):
    pretrained = "overrides=[model.weights=pretrained]"
    set_all(folder, "weights=s3://mine/weights", pretrained)
    own = "overrides=[model.weights=s3://mine/own.pth]"
    set_all(folder, own, configs=("vit_base_ucm",))
    found = {
        path.parent.name: yaml.safe_load(path.read_text())["model"].get("weights")
        for path in folder.glob("jobs/*/config.yaml")
    }
    assert found.pop("quickstart") == "s3://mine/weights"
    assert found.pop("vit_base_ucm") == "s3://mine/own.pth"
    assert len(found) == 3 * 27 - 1 and set(found.values()) == {"s3://mine/weights"}


def test_a_mirror_that_no_config_reads_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"settings\.yaml: weights: no config .*pretrained; add"):
        changes = ("weights=s3://mine/weights", "overrides=[model.weights=none]")
        render((), out=str(tmp_path), changes=changes, folder=CONFIGS)


def test_a_job_s_name_that_no_pod_could_have_is_refused(tmp_path: Path):
    problem = "resnet50_resisc45.yaml: its job would be called .*: 58 letters, 54 at most"
    with pytest.raises(ConfigError, match=problem):
        render((), out=str(tmp_path), changes=(f"study={'s' * 40}",), folder=CONFIGS)


def test_check_tells_what_is_stale_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = shutil.copytree(K8S, tmp_path / "k8s")
    assert render((), out=str(folder), check=True, folder=CONFIGS) == 0
    path = folder / "jobs" / "resnet50_ucm" / "kustomization.yaml"
    path.write_text(path.read_text() + "# mine\n")
    (folder / "dev" / "pod.yaml").unlink()
    assert render((), out=str(folder), check=True, folder=CONFIGS) == 1
    said = capsys.readouterr().out
    assert str(path) in said and "dev/pod.yaml" in said and "rsdl k8s render" in said
    assert path.read_text().endswith("# mine\n") and not (folder / "dev" / "pod.yaml").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("region", r"--set region: is not KEY=VALUE"),
        ("region=north", r"--set: region: must be one of west, central, east, is 'north'"),
        ("gpu=b200", r"gpu: must be one of rtx3090"),
        ("gpus=3", r"gpus: .*is 3"),
        ("image=rsdl", r"image: .*is 'rsdl'"),
        ("buckets=x", r"--set: buckets: unknown setting; known here: gpu, gpus"),
        ("namespace=My_Space", r"namespace: .*is 'My_Space'"),
        ("bucket=$(HOME)", r"bucket: "),
        ("cuda=11", r"cuda: must be one of 13, is 11|cuda: .*is 11"),
        ("overrides=[output=$(RSDL_RUNS)]", r"overrides: .*write \$\{oc.env:NAME\}"),
        ("weights=$(HOME)/weights", r"weights: .*is '\$\(HOME\)/weights'"),
        ("weights=weights", r"weights: .*is 'weights'"),
        ("bucket=[", r"--set bucket: cannot read the value '\['"),
    ],
)
def test_wrong_settings_are_refused_by_name(tmp_path: Path, change: str, message: str):
    with pytest.raises((ConfigError, ConfigErrors), match=message):
        render((), out=str(tmp_path), changes=(change,), folder=CONFIGS)
    assert not list(tmp_path.iterdir())


def test_a_wrong_file_of_settings_is_refused_by_name(tmp_path: Path):
    path = tmp_path / "settings.yaml"
    wrong = {
        "a: [": "is not YAML",
        "- 1": "must hold a mapping",
        "jobs: {x: {size: 1}}": r"jobs\.x\.size",
    }
    for text, message in wrong.items():
        path.write_text(text)
        with pytest.raises((ConfigError, ConfigErrors), match=message):
            render((), out=str(tmp_path), folder=CONFIGS)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("data: {url: data/mine, batch_size: 64}", r"mine\.yaml: data\.url: data/mine is a folder"),
        (
            "data: {url: 's3://b/x', image_size: 1024}",
            r"mine: data\.batch_size: 64 images of 1024 px",
        ),
    ],
)
def test_a_config_that_no_pod_can_train_is_refused(tmp_path: Path, fields: str, message: str):
    config = tmp_path / "configs" / "mine.yaml"
    config.parent.mkdir()
    config.write_text(f"output: s3://b/runs\nmodel: {{name: vit_base}}\n{fields}\n")
    with pytest.raises(ConfigError, match=message):
        render(("mine",), out=str(tmp_path / "k8s"), folder=str(config.parent))


def test_a_config_from_elsewhere_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="does not lie in"):
        render((str(tmp_path / "x.yaml"),), out=str(tmp_path), folder=CONFIGS)
