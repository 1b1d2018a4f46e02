"""docker/compose.yaml, service by service, against the Ceph gateway that it names."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from tests.image.conftest import Begin, Container, Image

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker" / "compose.yaml"

pytestmark = [pytest.mark.image, pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture
def services() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load(FILE.read_text())["services"]
    return services


def test_compose_trains_the_quickstart_into_a_bucket(
    image: "Image",
    ceph: str,
    start: "Begin",
    cache: Path,
    tmp_path: Path,
    services: dict[str, Any],
) -> None:
    # A network of their own, as in a pod, in which the name s3 leads to the gateway.
    pod = f"rsdl-test-{os.getpid()}"
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost s3\n")
    made = image.engine("pod", "create", "--network=none", "--name", pod)
    assert made.returncode == 0, made.stderr
    try:
        s3 = start(ceph, options=(f"--pod={pod}", *env(services["s3"])))
        s3.wait_for(lambda: s3.exec("serve", "healthy").returncode == 0)
        for name in in_order(services):
            service = services[name]
            assert service["volumes"] == ["cache:/cache"]
            volumes = (f"--volume={cache}:/cache", f"--volume={hosts}:/etc/hosts:ro")
            options = (f"--pod={pod}", *volumes, *env(service))
            done = image.run(*service["command"], options=options)
            assert done.returncode == 0, f"{name}: {done.stderr}"
        again = image.run(*services["train"]["command"], options=options)
        assert again.returncode == 0 and "completed" in again.stdout, again.stdout
        record = json.loads(fetch(s3, "runs/quickstart/run.json"))
        assert record["status"] == "completed"
        assert "<html" in fetch(s3, "runs/quickstart/report.html")
        assert s3.stop(20) == 0, s3.said
    finally:
        image.engine("pod", "rm", "--force", "--time", 1, pod)


def in_order(services: Mapping[str, Any]) -> list[str]:
    """Return the services that come to an end, each after those that it waits for."""
    order: list[str] = []
    while left := [name for name in services if name not in order]:
        ready = [n for n in left if set(services[n].get("depends_on", {})) <= {*order}]
        assert ready, f"wait for each other: {left}"
        order.append(ready[0])
    return [name for name in order if name != "s3"]


def env(service: Mapping[str, Any]) -> list[str]:
    return [f"--env={name}={value}" for name, value in service["environment"].items()]


def fetch(s3: "Container", name: str) -> str:
    """Return a file as a browser gets it, without keys."""
    done = s3.exec("curl", "--silent", "--fail", f"http://127.0.0.1:7480/rsdl/{name}")
    assert done.returncode == 0, done.stderr
    return str(done.stdout)
