"""Containers of the image that scripts/build_image made, run as a cluster runs them."""

import functools
import json
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

ROOT = Path(__file__).parents[2]
W = Path(os.environ.get("W", "/tmp/rsdl-image"))  # where scripts/build_image keeps everything

# A pod under the restricted security standard.
RESTRICTED = (
    "--no-healthcheck",
    "--read-only",
    "--tmpfs=/tmp",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
)


@dataclass(frozen=True)
class Engine:
    """Runs podman on the storage of scripts/build_image."""

    def __call__(self, *arguments: object) -> "subprocess.CompletedProcess[str]":
        """Run ``podman ARGUMENTS`` to its end."""
        words = shlex.join(["podman", *map(str, arguments)])
        settings = W / "env.sh"
        script = f". {shlex.quote(str(settings))} && {words}" if settings.is_file() else words
        return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)

    def has(self, image: str) -> bool:
        return shutil.which("podman") is not None and not self("image", "exists", image).returncode


@functools.cache
def build(image: str, dockerfile: str) -> None:
    """Build an image anew, once a session."""
    command = [str(ROOT / "scripts" / "build_image"), str(image), str(dockerfile)]
    done = subprocess.run(
        command, env={**os.environ, "W": str(W)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]


@dataclass(frozen=True)
class Image:
    """The image of rsdl."""

    engine: Engine
    name: str

    def run(
        self, *arguments: object, options: Sequence[str] = ("--network=none",)
    ) -> "subprocess.CompletedProcess[str]":
        """Run ``rsdl ARGUMENTS`` in a container to its end."""
        return self.engine("run", "--rm", *RESTRICTED, *options, self.name, *arguments)

    def python(self, code: str) -> str:
        """Return what a piece of Python prints in a container."""
        options = ("--network=none", "--entrypoint=python3")
        done = self.run("-c", code, options=options)
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    @property
    def config(self) -> dict[str, Any]:
        done = self.engine("image", "inspect", self.name)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)[0]
        return found


@dataclass(frozen=True)
class Container:
    """A container that runs on."""

    engine: Engine
    number: str

    def stop(self, grace_s: int = 60) -> int:
        """Send SIGTERM as a cluster does, SIGKILL after the grace; return the exit code."""
        self.engine("stop", "-t", grace_s, self.number)
        return self.wait()

    def wait(self) -> int:
        return int(self.engine("wait", self.number).stdout)

    def wait_for(self, condition: Callable[[], object], limit_s: float = 1800) -> None:
        """Wait until a condition holds; the container must not have ended without it."""
        end = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < end and self.runs, self.said
            time.sleep(0.05)

    def exec(self, *command: str) -> "subprocess.CompletedProcess[str]":
        return self.engine("exec", self.number, *command)

    @property
    def said(self) -> str:
        done = self.engine("logs", self.number)
        return done.stdout + done.stderr

    @property
    def runs(self) -> bool:
        done = self.engine("inspect", "--format", "{{.State.Running}}", self.number)
        return done.stdout.strip() == "true"


class Begin(Protocol):
    """Starts a container in the background."""

    def __call__(
        self, image: str, *arguments: object, options: Sequence[str] = ("--network=none",)
    ) -> Container: ...


@pytest.fixture
def image(require: Callable[[str, bool], None]) -> Image:
    """Return the image: the one that RSDL_TEST_IMAGE names, or, where it is demanded, a new one.

    A build takes minutes and 30 GB, so it is not begun because the tools happen to be there.
    """
    engine = Engine()
    name = os.environ.get("RSDL_TEST_IMAGE", "")
    if name:
        assert engine.has(name), f"RSDL_TEST_IMAGE names {name}, which podman does not know"
        return Image(engine, name)
    demanded = "image" in os.environ.get("RSDL_TEST_REQUIRE", "").split(",")
    require("image", demanded and os.geteuid() == 0)
    build("localhost/rsdl", "docker/Dockerfile")
    return Image(engine, "localhost/rsdl")


@pytest.fixture
def ceph(image: Image) -> str:
    """Return the name of the S3 service's image, which takes seconds to build."""
    name = "localhost/rsdl-ceph"
    if not image.engine.has(name):
        build(name, "docker/ceph/Dockerfile")
    return name


@pytest.fixture
def start(image: Image) -> Iterator[Begin]:
    """Return what starts a container in the background; none outlives the test."""
    started: list[Container] = []

    def begin(
        name: str, *arguments: object, options: Sequence[str] = ("--network=none",)
    ) -> Container:
        done = image.engine("run", "--detach", *RESTRICTED, *options, name, *arguments)
        assert done.returncode == 0, done.stderr
        started.append(Container(image.engine, done.stdout.strip().splitlines()[-1]))
        return started[-1]

    yield begin
    for container in started:
        image.engine("rm", "--force", "--time", 1, container.number)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Return a folder that the image's user may write to, for its /cache."""
    folder = tmp_path / "cache"
    folder.mkdir()
    os.chown(folder, 1000, 1000)
    return folder
