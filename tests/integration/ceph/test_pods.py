"""Rendered Jobs, run as they are, against a real gateway: data, training, preemption, two nodes."""

import json
import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rsdl.cluster.load import Manifest, load_manifests
from rsdl.commands.k8s import render
from rsdl.storage.connect import connect, join
from tests.integration.ceph.conftest import ACCESS_KEY, SECRET_KEY, Gateway
from tests.integration.ceph.pods import LIMIT_S, ROOT, Pods, kill
from tests.k8s.kubelet import Cluster

pytestmark = [pytest.mark.ceph, pytest.mark.slow]

KEYS = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
# A run of seconds instead of hours on a GPU.
SMALL = (
    "model.name=test_vit", "data.image_size=32", "data.batch_size=6", "data.num_workers=2",
    "model.weights=none", "model.drop_path_rate=null", "trainer.accelerator=cpu",
    "trainer.log_every_steps=1", "optim.warmup_epochs=0.5", "augment.mixup=0", "augment.cutmix=0",
)  # fmt: skip


@pytest.fixture
def k8s(require: Callable[[str, bool], None], bucket: str, tmp_path: Path) -> Path:
    """Return manifests for the test's bucket."""
    require("kubectl", bool(shutil.which("kubectl") or shutil.which("kustomize")))
    folder = tmp_path / "k8s"
    name = bucket.removeprefix("s3://")
    configs = str(ROOT / "configs")
    assert render((), out=str(folder), changes=(f"bucket={name}",), folder=configs) == 0
    return folder


@pytest.fixture
def pods(k8s: Path, gateway: Gateway, tmp_path: Path) -> Iterator[Pods]:
    """Return what runs pods."""
    folder = tmp_path / "pods"
    for name in ("cache", "tmp"):
        (folder / name).mkdir(parents=True)
    places = {
        "AWS_ENDPOINT_URL_S3": gateway.url,
        "RSDL_CACHE": str(folder / "cache"),
        "TMPDIR": str(folder / "tmp"),
        "HOME": str(folder / "tmp"),
    }
    cluster = Cluster.of(jobs_and_more(k8s), {"rsdl-s3": KEYS})
    running = Pods(folder, cluster, places)
    yield running
    running.close()


def jobs_and_more(k8s: Path) -> list[Manifest]:
    """Return the study, and the quickstart."""
    return [*load_manifests(str(k8s)), *load_manifests(f"{k8s}/jobs/quickstart")]


def job_at(folder: Path) -> Manifest:
    (job,) = [each for each in load_manifests(str(folder)) if each.kind == "Job"]
    return job


def record_of(bucket: str, name: str) -> dict[str, Any]:
    store = connect(f"{bucket}/runs/hrrsi/{name}", None)
    if store.size("run.json") is None:
        return {}
    record: dict[str, Any] = json.loads(store.read("run.json"))
    return record


def files_of(bucket: str, name: str) -> set[str]:
    return {entry.name for entry in connect(join(bucket, "runs/hrrsi", name), None).list()}


def test_the_quickstart_from_its_data_to_its_report(pods: Pods, k8s: Path, bucket: str):
    data = job_at(k8s / "data")
    last = data.body["spec"]["completions"] - 1
    assert pods.run(data, index=last) == 0, pods.said(last)
    assert connect(f"{bucket}/data/quickstart", None).size("manifest.json")
    # A pod that comes again finds all done.
    assert pods.run(data, index=last) == 0
    assert "is complete" in pods.said(last)

    quickstart = job_at(k8s / "jobs" / "quickstart")
    assert pods.run(quickstart) == 0, pods.said()
    record = record_of(bucket, "quickstart")
    assert record["status"] == "completed" and record["dataset"] == "quickstart"
    assert {"checkpoints/best.ckpt", "report.html", "metrics.csv"} <= files_of(bucket, "quickstart")
    assert pods.run(quickstart) == 0
    assert "is completed" in pods.said()


def test_a_job_that_is_preempted_goes_on_and_completes(
    pods: Pods, k8s: Path, bucket: str, remote: str
):
    job = job_at(k8s / "jobs" / "resnet50_ucm")
    overrides = (*SMALL, f"data.url={remote}", "trainer.max_epochs=15")
    pod = pods.start(job, *overrides)
    pods.wait_for(lambda: has_trained(bucket, "resnet50_ucm"))
    pod.send_signal(signal.SIGTERM)
    assert pod.wait(LIMIT_S) == 75, pods.said()
    record = record_of(bucket, "resnet50_ucm")
    assert record["status"] == "preempted" and record["preemptions"] == 1
    assert 0 < len(record["ledger"]) < 15

    # Another node: nothing is left but what is in the bucket.
    shutil.rmtree(pods.folder / "cache")
    (pods.folder / "cache").mkdir()
    assert pods.run(job, *overrides) == 0, pods.said()
    check_completed(bucket, "resnet50_ucm", 15)
    assert record_of(bucket, "resnet50_ucm")["resumes"] == 1


def test_a_job_with_wrong_input_fails_with_2(pods: Pods, k8s: Path):
    job = job_at(k8s / "jobs" / "resnet50_ucm")
    assert pods.run(job, *SMALL) == 2  # there is no data set
    assert "data/ucm" in pods.said() and "Traceback" not in pods.said()


@pytest.fixture
def pair(k8s: Path) -> Manifest:
    """Return a Job of two pods."""
    configs = str(ROOT / "configs")
    render(("resnet50_ucm",), out=str(k8s), changes=("nodes=2",), folder=configs)
    return job_at(k8s / "jobs" / "resnet50_ucm")


@pytest.fixture
def alone(remote: str) -> tuple[str, ...]:
    """Return what two pods on one machine need: one address for both, and less patience."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    return (
        *SMALL, f"data.url={remote}", f"--rdzv-endpoint=127.0.0.1:{port}",
        "trainer.max_epochs=15", "trainer.timeout_s=60", "trainer.rendezvous_s=60",
    )  # fmt: skip


@pytest.mark.parametrize("lost", [0, 1])
def test_two_pods_of_which_one_is_killed_meet_again_and_complete(
    pods: Pods, pair: Manifest, alone: tuple[str, ...], bucket: str, lost: int,
    require: Callable[[str, bool], None],
):  # fmt: skip
    # The first pod serves the rendezvous: losing it is the harder case.
    require("patience", lost == 0 or "RSDL_TEST_PATIENCE" in os.environ)
    running = {index: pods.start(pair, *alone, index=index) for index in (0, 1)}
    pods.wait_for(lambda: has_trained(bucket, "resnet50_ucm"), 0, 1)
    kill(running[lost])
    # As in a cluster: whatever ends in failure gets a new pod, which may come before the other
    # pod has noticed anything.
    counted = pods.complete(pair, *alone, pods=running)
    assert -signal.SIGKILL in counted
    check_completed(bucket, "resnet50_ucm", 15)
    record = record_of(bucket, "resnet50_ucm")
    assert record["device_count"] == 2 and record["resumes"] >= 1


def test_two_pods_of_which_one_is_preempted_save_and_complete(
    pods: Pods, pair: Manifest, alone: tuple[str, ...], bucket: str
):
    running = {index: pods.start(pair, *alone, index=index) for index in (0, 1)}
    pods.wait_for(lambda: has_trained(bucket, "resnet50_ucm"), 0, 1)
    running[1].send_signal(signal.SIGTERM)
    assert [running[index].wait(LIMIT_S) for index in (0, 1)] == [75, 75], pods.said(0)
    assert pods.complete(pair, *alone, pods=running) == []
    check_completed(bucket, "resnet50_ucm", 15)


def test_a_pod_that_comes_when_all_is_done_succeeds_alone(
    pods: Pods, pair: Manifest, alone: tuple[str, ...], bucket: str
):
    short = (*alone, "trainer.max_epochs=2")
    running = {index: pods.start(pair, *short, index=index) for index in (0, 1)}
    assert [running[index].wait(LIMIT_S) for index in (0, 1)] == [0, 0], pods.said(0)
    # One that died at the last moment comes again, and its peer does not.
    for index in (1, 0):
        assert pods.run(pair, *short, index=index) == 0, pods.said(index)
        assert "is completed" in pods.said(index)
    check_completed(bucket, "resnet50_ucm", 2)


def has_trained(bucket: str, name: str) -> bool:
    """Return whether an epoch of a run is in the bucket with its checkpoint."""
    return bool(record_of(bucket, name).get("ledger")) and (
        "checkpoints/last.ckpt" in files_of(bucket, name)
    )


def check_completed(bucket: str, name: str, epochs: int) -> None:
    record = record_of(bucket, name)
    assert record["status"] == "completed"
    ledger = record["ledger"]
    assert [entry["epoch"] for entry in ledger] == list(range(epochs))
    assert all(entry["balanced"] and entry["delivered"] == 18 for entry in ledger), ledger
    assert "report.html" in files_of(bucket, name)
