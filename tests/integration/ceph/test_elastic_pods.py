"""The rendered Jobs of an elastic run, run as they are: a rendezvous, a core and a growing part."""

import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from rsdl.cluster.labels import CORE, GROWING, RENDEZVOUS, ROLE
from rsdl.cluster.load import Manifest, load_manifests
from rsdl.commands.k8s import render
from tests.integration.ceph.conftest import Gateway
from tests.integration.ceph.pods import LIMIT_S, ROOT, Pods, kill, stop
from tests.integration.ceph.test_pods import (
    KEYS,
    SMALL,
    check_completed,
    has_trained,
    record_of,
)
from tests.k8s.kubelet import Cluster

pytestmark = [pytest.mark.ceph, pytest.mark.slow]

NAME = "resnet50_ucm"
EPOCHS = 150  # a run has to outlive what happens to it: nodes that come take ten seconds


@pytest.fixture
def objects(
    require: Callable[[str, bool], None], bucket: str, tmp_path: Path
) -> Sequence[Manifest]:
    """Return the objects of a run of one or two nodes, for the test's bucket."""
    require("kubectl", bool(shutil.which("kubectl") or shutil.which("kustomize")))
    folder, configs = str(tmp_path / "k8s"), str(ROOT / "configs")
    name = bucket.removeprefix("s3://")
    assert render((), out=folder, changes=(f"bucket={name}",), folder=configs) == 0
    assert render((NAME,), out=folder, changes=("nodes=1:2",), folder=configs) == 0
    return load_manifests(f"{folder}/jobs/{NAME}")


@pytest.fixture
def jobs(objects: Sequence[Manifest]) -> dict[str, Manifest]:
    """Return the Jobs of the run, by role."""
    return {each.labels[ROLE]: each for each in objects if each.kind == "Job"}


@pytest.fixture
def pods(
    objects: Sequence[Manifest],
    jobs: dict[str, Manifest],
    gateway: Gateway,
    tmp_path: Path,
    require: Callable[[str, bool], None],
) -> Iterator[dict[str, Pods]]:
    """Return what runs the pods of each Job, on one disk each."""
    require("netns", os.geteuid() == 0 and shutil.which("unshare") is not None)
    cluster = Cluster.of(objects, {"rsdl-s3": KEYS})
    running = {}
    for role in jobs:
        folder = tmp_path / role
        for name in ("cache", "tmp"):
            (folder / name).mkdir(parents=True)
        places = {
            "AWS_ENDPOINT_URL_S3": gateway.url, "RSDL_CACHE": str(folder / "cache"),
            "TMPDIR": str(folder / "tmp"), "HOME": str(folder / "tmp"),
        }  # fmt: skip
        running[role] = Pods(folder, cluster, places, isolated=True)
    yield running
    for each in running.values():
        each.close()


@pytest.fixture
def port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        number: int = listener.getsockname()[1]
        return number


@pytest.fixture
def here(remote: str, port: int) -> tuple[str, ...]:
    """Return what nodes on one machine need: one address for all, and less patience."""
    return (
        *SMALL, f"data.url={remote}", f"--rdzv-endpoint=127.0.0.1:{port}",
        f"trainer.max_epochs={EPOCHS}", "trainer.timeout_s=60", "trainer.rendezvous_s=120",
    )  # fmt: skip


def said(pods: dict[str, Pods]) -> str:
    return "\n".join(f"--- {role}\n{each.said(0)}" for role, each in pods.items())


def test_neither_an_evicted_rendezvous_nor_a_core_that_is_killed_ends_the_run(
    pods: dict[str, Pods], jobs: dict[str, Manifest], here: tuple[str, ...], bucket: str, port: int
):
    server = pods[RENDEZVOUS].start(jobs[RENDEZVOUS], f"--port={port}", index=0)
    core = pods[CORE].start(jobs[CORE], *here, index=0)
    pods[CORE].wait_for(lambda: has_trained(bucket, NAME), 0)  # alone: MIN is 1
    growing = pods[GROWING].start(jobs[GROWING], *here, index=0)
    pods[CORE].wait_for(lambda: worlds(bucket) == [1, 2], 0)
    stop(server)
    # With 0 its Job would be complete, and no other would come.
    assert server.wait(LIMIT_S) == 75, said(pods)
    again = pods[RENDEZVOUS].start(jobs[RENDEZVOUS], f"--port={port}", index=0)
    pods[CORE].wait_for(lambda: worlds(bucket)[2:], 0)
    pods[CORE].wait_for(lambda: worlds(bucket)[-1:] == [2], 0)
    kill(core)
    pods[GROWING].wait_for(lambda: worlds(bucket)[-1:] == [1], 0)
    # Its Job makes another, which joins.
    counted = pods[CORE].complete(jobs[CORE], *here, pods={0: core})
    assert counted == [-signal.SIGKILL]  # the one that was killed, and no other
    assert growing.wait(LIMIT_S) == 0 == again.wait(LIMIT_S), said(pods)
    check_completed(bucket, NAME, EPOCHS)
    # A pod that gets its GPU after all that sees that nothing is left to do.
    assert pods[GROWING].run(jobs[GROWING], *here, index=0) == 0
    assert "is completed" in pods[GROWING].said(0)


def worlds(bucket: str) -> list[int]:
    """Return the numbers of devices on which the run has trained, one after the other."""
    return [world["world_size"] for world in record_of(bucket, NAME).get("worlds", ())]
