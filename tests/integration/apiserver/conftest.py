"""A real kube-apiserver with its controllers, and a namespace of its own for each test."""

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rsdl.commands.k8s import render
from tests.integration.apiserver.nodes import NODE, Nodes
from tests.integration.apiserver.plane import SCRIPT, Plane, Space, run_script
from tests.integration.ceph.conftest import cluster as cluster  # a fixture, as the next
from tests.integration.ceph.conftest import free_ports
from tests.integration.ceph.conftest import gateway as gateway

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rsdl" / "kubernetes"
CONFIGS = str(Path(__file__).parents[3] / "configs")
MEMBER = "member"
NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def started() -> Iterator[Plane]:
    folder = Path(tempfile.mkdtemp(prefix="k-"))
    try:
        port = free_ports(3)  # etcd takes the others
        run_script("start", folder, port)
        plane = Plane(folder, port)
        plane.ask("POST", "/api/v1/nodes", {"metadata": {"name": NODE}})
        # Nautilus has this one; without it, a pod that names it is refused.
        plane.ask(
            "POST", "/apis/scheduling.k8s.io/v1/priorityclasses",
            {"metadata": {"name": "opportunistic"}, "value": -10},
        )  # fmt: skip
        yield plane
    finally:
        subprocess.run([str(SCRIPT), "stop", str(folder)], check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def plane(require: Callable[[str, bool], None], request: pytest.FixtureRequest) -> Plane:
    """Return the control plane, made once."""
    built = (CACHE / "kube-apiserver").exists() and (CACHE / "kube-controller-manager").exists()
    programs = all(map(shutil.which, ("etcd", "openssl", "curl")))
    # They take minutes, so that they are asked for, even where all of it is here.
    named = (request.config.option.markexpr, os.environ.get("RSDL_TEST_REQUIRE", ""))
    require("apiserver", built and programs and any("apiserver" in words for words in named))
    require("kubectl", shutil.which("kubectl") is not None)
    found: Plane = request.getfixturevalue("started")
    return found


@pytest.fixture
def space(plane: Plane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Space]:
    """Return a namespace of the test's own; kubectl is let in as its administrator."""
    found = make_space(plane)
    config = plane.write_kubeconfig(tmp_path / "kubeconfig", found.token(MEMBER), found.name)
    monkeypatch.setenv("KUBECONFIG", str(config))
    monkeypatch.setenv("KUBECACHEDIR", str(tmp_path / "kube-cache"))
    monkeypatch.chdir(tmp_path)
    yield found
    plane.ask("DELETE", f"/api/v1/namespaces/{found.name}")


@pytest.fixture
def nodes(space: Space) -> Nodes:
    """Return what moves the pods of the namespace."""
    return Nodes(space)


@pytest.fixture
def rendered(space: Space, tmp_path: Path) -> Path:
    """Return the manifests of the whole study, for this namespace."""
    return render_study(tmp_path / "k8s", space)


def make_space(plane: Plane) -> Space:
    """Make a namespace, its administrator, and the secret that pods read."""
    name = f"space-{next(NUMBERS)}"
    plane.ask("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    space = Space(plane, name)
    space.add_member(MEMBER, "admin")
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    space("POST", "v1/secrets", {"metadata": {"name": "rsdl-s3"}, "stringData": keys})
    return space


def render_study(folder: Path, space: Space, *changes: str) -> Path:
    """Write the manifests of a study, and those of the Indexed Job, as a user would."""
    settings = (f"namespace={space.name}", *changes)
    render((), out=str(folder), changes=settings, folder=CONFIGS, indexed=True)
    return folder


def kubectl(*arguments: object, fails: bool = False) -> str:
    """Return what kubectl says, on both streams."""
    done = subprocess.run(
        ["kubectl", *map(str, arguments)], capture_output=True, text=True, timeout=120
    )
    assert bool(done.returncode) == fails, done.stderr
    return done.stdout + done.stderr
