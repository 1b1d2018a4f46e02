"""What kustomize makes of the committed manifests."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rsdl.cluster.load import Manifest, load_manifests
from tests.k8s.kubelet import Cluster

K8S = Path(__file__).parents[2] / "k8s"
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}

Build = Callable[[str], list[Manifest]]


@pytest.fixture
def kubectl(require: Callable[[str, bool], None]) -> None:
    """Ask for kubectl or kustomize."""
    require("kubectl", bool(shutil.which("kubectl") or shutil.which("kustomize")))


@pytest.fixture
def folder(kubectl: None, tmp_path: Path) -> Path:
    """Return a copy of the manifests, to be changed at will."""
    return shutil.copytree(K8S, tmp_path / "k8s")


@pytest.fixture(scope="session")
def built() -> dict[str, list[Manifest]]:
    return {}


@pytest.fixture
def build(kubectl: None, built: dict[str, list[Manifest]]) -> Build:
    """Return what builds a folder of the committed manifests, once."""

    def at(path: str = "") -> list[Manifest]:
        if path not in built:
            built[path] = load_manifests(str(K8S / path))
        return built[path]

    return at


@pytest.fixture
def jobs(build: Build) -> list[Manifest]:
    """Return the Jobs of the study."""
    return [each for each in build("") if each.kind == "Job"]


@pytest.fixture
def cluster(build: Build) -> Cluster:
    """Return the objects that pods refer to."""
    return Cluster.of(build(""), {"rsdl-s3": KEYS})
