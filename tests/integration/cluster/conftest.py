"""A cluster of one process, the real kubectl that talks to it, and a small study's manifests."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rsdl.cluster.labels import ARCHITECTURE, CONFIG, DATASET, STUDY, plain
from rsdl.records.run_record import RunRecord
from rsdl.storage.connect import connect, join
from tests.integration.cluster.apiserver import ApiServer
from tests.integration.cluster.world import World
from tests.run_records import make_record

CONFIGS = tuple(f"{net}_{data}" for net in ("cnn", "vit", "swin") for data in ("ucm", "aid"))


def labels(config: str, study: str = "hrrsi") -> dict[str, str]:
    """Return what every Job of the study carries, and its pods."""
    net, _, data = config.partition("_")
    common = {"name": "rsdl", "instance": plain(config), "component": "train",
              "part-of": study, "managed-by": "kustomize", "version": "1"}  # fmt: skip
    return {f"app.kubernetes.io/{name}": value for name, value in common.items()} | {
        ARCHITECTURE: net, DATASET: data, STUDY: study,
    }  # fmt: skip


def job(config: str, study: str = "hrrsi", memory: str = "8Gi", backoff: int = 2) -> dict[str, Any]:
    """Return a Job of the study."""
    container = {
        "name": "train",
        "image": "registry.example.org/rsdl:1",
        "args": ["train", f"configs/{config}.yaml"],
        "env": [{"name": "RSDL_RUNS", "value": f"s3://imagery/runs/{study}"}],
        "resources": {"requests": {"memory": memory}, "limits": {"memory": memory}},
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": plain(config),
            "labels": labels(config, study),
            "annotations": {CONFIG: config},
        },
        "spec": {
            "backoffLimit": backoff,
            "template": {
                "metadata": {"labels": labels(config, study)},
                "spec": {"restartPolicy": "Never", "containers": [container]},
            },
        },
    }


def account() -> dict[str, Any]:
    """Return what the Jobs need besides."""
    metadata = {"name": "rsdl", "labels": {"app.kubernetes.io/name": "rsdl"}}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}


def mount_config(job: dict[str, Any], text: str) -> list[dict[str, Any]]:
    """Return a Job that trains a config of this text, and the ConfigMap that brings it."""
    name = job["metadata"]["name"]
    pod = job["spec"]["template"]["spec"]
    pod["volumes"] = [{"name": "config", "configMap": {"name": name}}]
    pod["containers"][0] |= {
        "args": ["train", "/config/config.yaml"],
        "volumeMounts": [{"name": "config", "mountPath": "/config"}],
    }
    data = {"config.yaml": text}
    return [
        job,
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data},
    ]


def write_study(folder: Path, configs: tuple[str, ...] = CONFIGS, **options: Any) -> Path:  # noqa: ANN401
    """Write a study's manifests below a folder, as files that Kustomize puts together."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "account.yaml").write_text(yaml.safe_dump(account()))
    for config in configs:
        (folder / f"{config}.yaml").write_text(yaml.safe_dump(job(config, **options)))
    names = ["account.yaml", *(f"{config}.yaml" for config in configs)]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump({"resources": names}))
    return folder


@pytest.fixture
def world() -> World:
    """Return an empty cluster, where every Job succeeds in a few looks."""
    return World()


@pytest.fixture
def api(
    world: World,
    require: Callable[[str, bool], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[ApiServer]:
    """Return the server of the cluster that kubectl talks to."""
    require("kubectl", shutil.which("kubectl") is not None)
    with ApiServer(world) as server:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", server.url)))
        monkeypatch.setenv("KUBECACHEDIR", str(tmp_path / "kube-cache"))
        monkeypatch.chdir(tmp_path)
        yield server


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Return the folder with the manifests of six Jobs and a service account."""
    return write_study(tmp_path / "study")


def write_kubeconfig(path: Path, url: str, namespace: str = "study") -> Path:
    """Write what tells kubectl where the cluster is."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": url}}],
        "users": [{"name": "test", "user": {"token": "t"}}],
        "contexts": [
            {"name": "test",
             "context": {"cluster": "test", "user": "test", "namespace": namespace}},
        ],
    }  # fmt: skip
    path.write_text(yaml.safe_dump(content))
    return path


def write_record(runs: str, config: str, status: str = "completed", **fields: Any) -> RunRecord:  # noqa: ANN401
    """Write the record of a run, and what a completed one leaves besides."""
    net, _, data = config.partition("_")
    values: dict[str, Any] = {
        "name": config, "status": status, "architecture": net, "timm_model": net, "dataset": data,
        "epochs_planned": 300, "epochs_completed": 300 if status == "completed" else 0,
    }  # fmt: skip
    record = make_record(**(values | fields))
    store = connect(join(runs, config), cache=None)
    store.write("run.json", record.model_dump_json().encode())
    return record
