"""rsdl k8s image with real engines and a real registry."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.cluster.checkout import git, make_checkout

ROOT = Path(__file__).parents[2]
# -P: the package of the working directory is not the one to run.
RSDL = [sys.executable, "-P", "-m", "rsdl", "k8s", "image"]
REGISTRY = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: "{address}"}}
"""
STORAGE = """
[storage]
driver = "vfs"
graphroot = "{folder}/storage"
runroot = "{folder}/run"
"""
INSECURE = """
[[registry]]
location = "{address}"
insecure = true
"""


@pytest.fixture
def registry(tmp_path: Path, require: Callable[[str, bool], None]) -> Iterator[str]:
    """Return the address of a registry of our own."""
    require("registry", all(map(shutil.which, ("docker-registry", "buildah", "podman"))))
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    config = tmp_path / "registry.yaml"
    config.write_text(REGISTRY.format(folder=tmp_path / "registry", address=address))
    with (tmp_path / "registry.log").open("wb") as log:
        server = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=log, stderr=log)
        try:
            yield address
        finally:
            server.kill()
            server.wait()


@pytest.fixture
def root(tmp_path: Path, registry: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a checkout; engines keep what they have in the test's own folder."""
    for name, text in (("STORAGE", STORAGE), ("REGISTRIES", INSECURE)):
        path = tmp_path / f"{name}.conf"
        path.write_text(text.format(folder=tmp_path / "engine", address=registry))
        variable = {
            "STORAGE": "CONTAINERS_STORAGE_CONF",
            "REGISTRIES": "CONTAINERS_REGISTRIES_CONF",
        }
        monkeypatch.setenv(variable[name], str(path))
    monkeypatch.setenv("BUILDAH_ISOLATION", "chroot")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    root = make_checkout(tmp_path / "rsdl")
    (root / "k8s" / "settings.yaml").write_text(f"image: {registry}/me/rsdl:old\n")
    wait_for(registry)
    return root


def wait_for(address: str) -> None:
    host, port = address.split(":")
    for _ in range(600):
        try:
            socket.create_connection((host, int(port))).close()
            return
        except OSError:
            time.sleep(0.05)
    pytest.fail(f"nobody listens on {address}")


def image(root: Path, *arguments: str) -> list[str]:
    """Return what ``rsdl k8s image ARGUMENTS`` prints."""
    command = [*RSDL, *arguments]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["podman", "buildah"])
def test_an_image_is_built_once_and_pushed(engine: str, root: Path) -> None:
    by = ("--engine", engine)
    named, mine, following = image(root, *by)
    assert "not here" in named and "not here" in mine and "--push" in following
    tag = mine.split()[2].removesuffix(":").removesuffix(",")

    assert image(root, "--build", *by)[-1] == "next: rsdl k8s image --push"
    assert image(root, "--build", *by)[0] == f"{tag} is here already: made of the same files"
    # A commit of settings starts no other build, and one of code does.
    git(root, "commit", "--quiet", "--all", "--message=My study")
    lines = image(root, "--push", *by)
    assert lines[0] == f"{tag} is here already: made of the same files"
    assert f"{engine} push {tag}" in lines
    assert lines[-1] == f"next: rsdl k8s render --set image={tag}"

    # It can be had from the registry, with the commit that it is of.
    fresh = f"--root={root.parent}/fresh"
    subprocess.run(["podman", fresh, "--storage-driver=vfs", "pull", "--quiet", tag], check=True)
    if engine == "podman":
        assert ", in the registry" in image(root, *by)[1]
        assert image(root, *by)[2] == f"next           rsdl k8s render --set image={tag}"
        other = f"{tag.partition('/')[0]}/you/rsdl"
        following = image(root, *by, "--name", other)[2]
        assert following == f"next           rsdl k8s image --push --name {other}"
        assert image(root, "--push", *by)[0].startswith(f"{tag} is in the registry already")
    (root / "configs" / "one.yaml").write_text("seed: 2\n")
    git(root, "commit", "--quiet", "--all", "--message=Another seed")
    named, mine, following = image(root, *by)
    assert tag not in mine and "not here" in mine and "rsdl k8s image --push" in following

    # The settings name what is not of this checkout, until they are told.
    (root / "k8s" / "settings.yaml").write_text(f"image: {image(root, *by)[1].split()[2][:-1]}\n")
    assert image(root, "--push", *by)[-1] == "next: nothing, the settings name it"


def test_a_registry_that_refuses_is_said_in_a_line(root: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = f"127.0.0.1:{free.getsockname()[1]}"
    command = [*RSDL, "--push", "--engine=buildah", f"--name={nobody}/me/rsdl"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == f"buildah push: ended with 125; may you push there? buildah login {nobody}"
