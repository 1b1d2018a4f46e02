"""The image of a study: the files that make it, the tag that follows from them, how it is built.

A tag is computed from what enters the image, not from the commit: a commit of settings or of a page
of docs/ names the same image as before, so nobody has to build it again, and a change of the code
can never go by the name of an image that was built without it. ``.ci/image`` computes the same in a
shell without git.
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
# What the Dockerfile copies, and itself; the lock comes to it.
SOURCES = ("LICENSE", "README.md", "configs", DOCKERFILE, "docker/build.lock", "pyproject.toml",
           "rsdl")  # fmt: skip
PLAIN_CUDA = next(iter(WHEELS))  # whose images have no suffix
DIGITS = 12


@dataclass(frozen=True, slots=True)
class Checkout:
    """A checkout of this repository, from which an image is built.

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
            ConfigError: If this is no checkout of rsdl.
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
        """Yield the files that enter the image, relative to the root, in no order."""
        for source in self.sources:
            path = self.root / source
            if path.is_file():
                yield source
            for folder, folders, names in os.walk(path):
                folders[:] = [name for name in folders if name != "__pycache__"]
                for name in names:
                    yield (Path(folder) / name).relative_to(self.root).as_posix()

    def tag(self) -> str:
        """Return version, 12 digits of what the files hold, and the CUDA unless it is the usual.

        The digits are of the SHA-256 of what ``sha256sum`` prints for the files, sorted by path.

        Raises:
            ConfigError: If this is no checkout of rsdl.
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
        """Return the files of the image that git does not know as they are.

        Raises:
            ConfigError: If git cannot say.
        """
        status = ["status", "--porcelain", "--untracked-files=all", "--no-renames", "--"]
        return [line[3:] for line in self._git(*status, *self.sources).splitlines()]

    def revision(self) -> str:
        """Return the commit, with ``+`` where files of the image differ from it.

        Raises:
            ConfigError: If git cannot say.
        """
        return self._git("rev-parse", "HEAD").strip() + ("+" if self.changed() else "")

    def build_arguments(self, created: str) -> dict[str, str]:
        """Return what the Dockerfile is told.

        Args:
            created: The time, ISO 8601.

        Raises:
            ConfigError: If git cannot say what the revision is.
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
    """A program that builds and pushes images; each method returns a command for it.

    Attributes:
        name: ``docker``, ``podman`` or ``buildah``.
    """

    name: str

    def probe(self) -> list[str]:
        """Succeeds where the engine works: docker's program is often there without its daemon."""
        return [self.name, "version" if self.name == "docker" else "info"]

    def build(self, image: str, arguments: Mapping[str, str]) -> list[str]:
        """Builds the image from the working directory."""
        # The format of Docker: that of OCI has no health check.
        extra = [] if self.name == "docker" else ["--format=docker", "--layers"]
        told = [f"--build-arg={key}={value}" for key, value in arguments.items()]
        # The locks are for it, and so are nodes with our cards; an Apple builds another by default.
        extra.append("--platform=linux/amd64")
        return [self.name, "build", *extra, f"--file={DOCKERFILE}", f"--tag={image}", *told, "."]

    def push(self, image: str) -> list[str]:
        """Pushes the image to the registry in its name."""
        return [self.name, "push", image]

    def has(self, image: str) -> list[str]:
        """Succeeds where the image has been built or pulled here."""
        if self.name == "buildah":
            return ["buildah", "inspect", "--type=image", image]
        return [self.name, "image", "inspect", image]

    def finds(self, image: str) -> list[str] | None:
        """Succeeds where the registry has the image and shows it to who is logged in here.

        ``None`` for buildah, which looks at lists of images alone.
        """
        return None if self.name == "buildah" else [self.name, "manifest", "inspect", image]

    def log_in(self, image: str) -> list[str]:
        """Logs in to the registry of the image."""
        return [self.name, "login", image.partition("/")[0]]


ENGINES = {name: Engine(name) for name in ("docker", "podman", "buildah")}
