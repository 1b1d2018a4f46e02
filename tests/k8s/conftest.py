"""What kustomize makes of the study, rendered with the settings that nobody has changed."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rsdl.cluster.load import Manifest, load_manifests
from rsdl.commands.k8s import render

K8S = Path(__file__).parents[2] / "k8s"

Build = Callable[[str], list[Manifest]]


@pytest.fixture
def kubectl(require: Callable[[str, bool], None]) -> None:
    """Ask for kubectl or kustomize."""
    require("kubectl", bool(shutil.which("kubectl") or shutil.which("kustomize")))


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the manifests, whatever bucket and namespace somebody has set in this checkout."""
    folder = tmp_path_factory.mktemp("rendered") / "k8s"
    assert render((), out=str(folder), folder=str(K8S.parent / "configs")) == 0
    return folder


@pytest.fixture
def folder(kubectl: None, rendered: Path, tmp_path: Path) -> Path:
    """Return a copy of the manifests, to be changed at will."""
    return shutil.copytree(rendered, tmp_path / "k8s")


@pytest.fixture(scope="session")
def built() -> dict[str, list[Manifest]]:
    return {}


@pytest.fixture
def build(kubectl: None, rendered: Path, built: dict[str, list[Manifest]]) -> Build:
    """Return what builds a folder of the manifests, once."""

    def at(path: str = "") -> list[Manifest]:
        if path not in built:
            built[path] = load_manifests(str(rendered / path))
        return built[path]

    return at


@pytest.fixture
def jobs(build: Build) -> list[Manifest]:
    """Return the Jobs of the study."""
    return [each for each in build("") if each.kind == "Job"]
