"""Load Kubernetes objects as plain mappings from YAML files and Kustomize folders.

A folder with a ``kustomization.yaml`` is built with ``kustomize`` or ``kubectl``, whichever is
installed; plain YAML needs neither. Nothing here talks to a cluster.
"""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rsdl.cluster.objects import annotations_of, labels_of, metadata_of, name_of
from rsdl.core.errors import ConfigError

KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")
SUFFIXES = (".yaml", ".yml", ".json")
BUILD_LIMIT_S = 120


@dataclass(frozen=True, slots=True)
class Manifest:
    """One Kubernetes object.

    Attributes:
        source: The file that holds it, or the folder that it was built from.
        body: The object.
    """

    source: str
    body: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """Its kind, such as ``Job``; empty where it is not given."""
        return str(self.body.get("kind") or "")

    @property
    def name(self) -> str:
        """Its name; empty where it has none."""
        return name_of(self.body)

    @property
    def namespace(self) -> str | None:
        """Its namespace; ``None`` for kubectl's current one."""
        value = metadata_of(self.body).get("namespace")
        return None if value is None else str(value)

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels."""
        return labels_of(self.body)

    @property
    def annotations(self) -> Mapping[str, str]:
        """Its annotations."""
        return annotations_of(self.body)

    @property
    def title(self) -> str:
        """Its name in messages: ``Job/resnet50-ucm``."""
        return f"{self.kind or '?'}/{self.name or '?'}"


def load_manifests(target: str) -> list[Manifest]:
    """Return the objects of a file, of a Kustomize folder, or of all files below a plain folder.

    Args:
        target: A YAML or JSON file, or a folder.

    Raises:
        ConfigError: If nothing is there, it is not YAML, or Kustomize fails.
    """
    path = Path(target)
    if path.is_dir():
        if any((path / name).is_file() for name in KUSTOMIZATIONS):
            return build(target)
        files = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.is_file())
        found = [manifest for file in files for manifest in read_file(file)]
        if not found:
            raise ConfigError(target, "holds no manifest", "name a file, or a Kustomize folder")
        return found
    if not path.is_file():
        raise ConfigError(target, "no such file or folder", "name a manifest or a Kustomize folder")
    return list(read_file(path))


def entry_points(target: str) -> list[str]:
    """Return the Kustomize folders at and below a folder that are applied by themselves, sorted.

    Excludes components and folders that another kustomization refers to, except ``target`` itself.

    Args:
        target: A folder.

    Raises:
        ConfigError: If a kustomization is not YAML.
    """
    top = Path(target).resolve()
    outermost = top
    while any((outermost.parent / name).is_file() for name in KUSTOMIZATIONS):
        outermost = outermost.parent
    files = [file for name in KUSTOMIZATIONS for file in outermost.rglob(name)]
    bodies = {file.parent.resolve(): next(read_file(file), None) for file in sorted(files)}
    used = {
        (folder / str(part)).resolve()
        for folder, manifest in bodies.items()
        if manifest is not None
        for part in (*_names(manifest, "resources"), *_names(manifest, "components"))
    }
    return [
        str(Path(target) / folder.relative_to(top))
        for folder, manifest in bodies.items()
        if folder == top
        or (
            folder.is_relative_to(top)
            and folder not in used
            and not (manifest and manifest.kind == "Component")
        )
    ]


def _names(manifest: Manifest, field: str) -> list[object]:
    found = manifest.body.get(field)
    return found if isinstance(found, list) else []


def read_file(path: Path) -> Iterator[Manifest]:
    """Yield the objects of a YAML or JSON file; lists are flattened.

    Raises:
        ConfigError: If it cannot be read, or is not YAML with objects.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), f"cannot be read: {error}") from error
    return parse(text, str(path))


def parse(text: str, source: str) -> Iterator[Manifest]:
    """Yield the objects of a YAML stream; lists are flattened.

    Args:
        text: The stream.
        source: Its source, for messages.

    Raises:
        ConfigError: If it is not YAML, or a document is not a mapping.
    """
    try:
        documents = list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(source, f"is not YAML: {reason}") from error
    for document in documents:
        if document is None:
            continue
        if not isinstance(document, dict):
            raise ConfigError(source, f"holds {document!r}, which is no object of Kubernetes")
        items = document.get("items")
        if str(document.get("kind", "")).endswith("List") and isinstance(items, list):
            yield from (Manifest(source, item) for item in items if isinstance(item, dict))
        else:
            yield Manifest(source, document)


def build(folder: str) -> list[Manifest]:
    """Return the objects that Kustomize builds from a folder.

    Raises:
        ConfigError: If neither kustomize nor kubectl is installed, or the build fails.
    """
    command = _builder()
    try:
        done = subprocess.run(
            [*command, folder], capture_output=True, text=True, timeout=BUILD_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigError(folder, f"was not built in {BUILD_LIMIT_S} s") from error
    if done.returncode:
        reason = " ".join(done.stderr.split()).removeprefix("error: ") or "no reason given"
        raise ConfigError(folder, f"{' '.join(command)} refuses it: {reason}")
    return list(parse(done.stdout, folder))


def _builder() -> tuple[str, ...]:
    if shutil.which("kubectl"):
        return ("kubectl", "kustomize")
    if shutil.which("kustomize"):
        return ("kustomize", "build")
    raise ConfigError(
        "kubectl", "neither it nor kustomize is on PATH", "install one, or name plain YAML files"
    )
