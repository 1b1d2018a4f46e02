"""The image of a study: its source files, its tag, and the commands that build it.

The tag is a hash of the files in the image, not the commit: a commit that changes only settings or
docs/ keeps the tag, so the image need not be rebuilt, and changed code can never have the tag of an
image that was built without it. ``.ci/image`` computes the same tag in a shell without git.
"""

import hashlib
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rsdl.cluster.wheels import WHEELS
from rsdl.core.errors import ConfigError

DOCKERFILE = "docker/Dockerfile"
# The Dockerfile and all that it copies; the lock file of the CUDA version is added to it.
SOURCES = ("LICENSE", "README.md", "configs", DOCKERFILE, "docker/build.lock", "pyproject.toml",
           "rsdl")  # fmt: skip
PLAIN_CUDA = next(iter(WHEELS))  # its image tags have no suffix
DIGITS = 12


@dataclass(frozen=True, slots=True)
class Checkout:
    """A checkout of this repository, the source of an image.

    Attributes:
        root: Its folder.
        cuda: CUDA of the image, a key of ``WHEELS``.
    """

    root: Path
    cuda: str = PLAIN_CUDA

    @property
    def sources(self) -> tuple[str, ...]:
        """Files and folders that enter the image, relative to the root."""
        return (*SOURCES, f"docker/{WHEELS[self.cuda].lock}")

    @property
    def version(self) -> str:
        """Version of rsdl in the checkout.

        Raises:
            ConfigError: If this is not a checkout of rsdl.
        """
        try:
            text = (self.root / "rsdl" / "__init__.py").read_text()
        except OSError:
            text = ""
        found = re.search(r'(?m)^__version__ = "(.*)"$', text)
        if found is None or not (self.root / DOCKERFILE).is_file():
            raise ConfigError(DOCKERFILE, f"{self.root} is no checkout of rsdl",
                              "go to the folder that you have cloned")  # fmt: skip
        return found[1]

    def files(self) -> Iterator[str]:
        """Yield the files that enter the image, relative to the root, unordered."""
        for source in self.sources:
            path = self.root / source
            if path.is_file():
                yield source
            for folder, folders, names in os.walk(path):
                folders[:] = [name for name in folders if name != "__pycache__"]
                for name in names:
                    yield (Path(folder) / name).relative_to(self.root).as_posix()

    def tag(self) -> str:
        """Return version, 12 digits of the files' hash, and the CUDA version if not the default.

        The digits are of the SHA-256 of the output of ``sha256sum`` for the files, sorted by path.

        Raises:
            ConfigError: If this is not a checkout of rsdl.
        """
        version = self.version
        lines = [
            f"{hashlib.sha256((self.root / path).read_bytes()).hexdigest()}  {path}\n"
            for path in sorted(self.files(), key=os.fsencode)
        ]
        content = hashlib.sha256("".join(lines).encode()).hexdigest()[:DIGITS]
        suffix = "" if self.cuda == PLAIN_CUDA else f"-cuda{self.cuda}"
        return f"{version}-{content}{suffix}"

    def changed(self) -> list[str]:
        """Return the files of the image with uncommitted changes.

        Raises:
            ConfigError: If git fails.
        """
        status = ["status", "--porcelain", "--untracked-files=all", "--no-renames", "--"]
        return [line[3:] for line in self._git(*status, *self.sources).splitlines()]

    def revision(self) -> str:
        """Return the commit, followed by ``+`` if files of the image differ from it.

        Raises:
            ConfigError: If git fails.
        """
        return self._git("rev-parse", "HEAD").strip() + ("+" if self.changed() else "")

    def build_arguments(self, created: str) -> dict[str, str]:
        """Return the build arguments of the Dockerfile.

        Args:
            created: The time, ISO 8601.

        Raises:
            ConfigError: If git fails.
        """
        return {
            "LOCK": WHEELS[self.cuda].lock,
            "VERSION": self.version,
            "REVISION": self.revision(),
            "CREATED": created,
        }

    def _git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.root), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise ConfigError("git", f"cannot be run: {error.strerror}", "install it") from error
        if done.returncode:
            said = (done.stderr.strip() or "failed without a word").splitlines()[-1]
            raise ConfigError("git", said, "go to a clone with at least one commit")
        return done.stdout


@dataclass(frozen=True, slots=True)
class Engine:
    """A program that builds and pushes images; each method returns the command to run.

    Attributes:
        name: ``docker``, ``podman`` or ``buildah``.
    """

    name: str

    def probe(self) -> list[str]:
        """Return a command that succeeds if the engine works: docker may lack its daemon."""
        return [self.name, "version" if self.name == "docker" else "info"]

    def build(self, image: str, arguments: Mapping[str, str]) -> list[str]:
        """Return the command that builds the image from the working directory."""
        # Docker's format: the OCI format has no health check.
        extra = [] if self.name == "docker" else ["--format=docker", "--layers"]
        told = [f"--build-arg={key}={value}" for key, value in arguments.items()]
        # The lock files and the GPU nodes are amd64; Apple computers build arm64 by default.
        extra.append("--platform=linux/amd64")
        return [self.name, "build", *extra, f"--file={DOCKERFILE}", f"--tag={image}", *told, "."]

    def push(self, image: str) -> list[str]:
        """Return the command that pushes the image to its registry."""
        return [self.name, "push", image]

    def has(self, image: str) -> list[str]:
        """Return a command that succeeds if the image is in the local storage."""
        if self.name == "buildah":
            return ["buildah", "inspect", "--type=image", image]
        return [self.name, "image", "inspect", image]

    def finds(self, image: str) -> list[str] | None:
        """Return a command that succeeds if the registry shows the image to the logged-in user.

        ``None`` for buildah, which can inspect only manifest lists.
        """
        return None if self.name == "buildah" else [self.name, "manifest", "inspect", image]

    def log_in(self, image: str) -> list[str]:
        """Return the command that logs in to the registry of the image."""
        return [self.name, "login", image.partition("/")[0]]


ENGINES = {name: Engine(name) for name in ("docker", "podman", "buildah")}
