"""What a kubelet makes of a container: the command and the environment of its process.

Only what manifests of ours use: values, keys of config maps and secrets, fields of the pod, and
``$(NAME)``, which is filled in from variables that stand before and is left as it is elsewhere.
"""

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rsdl.cluster.load import Manifest

REFERENCE = re.compile(r"\$(\$|\((\w+)\))")
FIELD = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


@dataclass(frozen=True)
class Cluster:
    """The objects that a pod refers to, by name."""

    config_maps: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, objects: Sequence[Manifest], secrets: Mapping[str, Mapping[str, str]]) -> "Cluster":
        maps = {each.name: each.body["data"] for each in objects if each.kind == "ConfigMap"}
        return cls(maps, secrets)


@dataclass(frozen=True)
class Process:
    """How a container starts; ``command`` is empty where the image's entry point is used.

    ``files`` are those that are mounted from config maps, by path.
    """

    command: list[str]
    arguments: list[str]
    environment: dict[str, str]
    files: dict[str, str]

    def run(
        self,
        *overrides: str,
        folder: Path,
        mounts: Path,
        log: Path,
        environment: Mapping[str, str],
        within: Sequence[str] = (),
    ) -> "subprocess.Popen[bytes]":
        """Start the container as a process of this machine.

        Args:
            overrides: Arguments besides its own.
            folder: The image's working directory.
            mounts: Folder in place of ``/`` for what is mounted.
            log: File to which it says what it says.
            environment: Variables besides its own, which they replace.
            within: Program that runs the command, with its first arguments.
        """
        for path, text in self.files.items():
            file = mounts / path.removeprefix("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        arguments = [
            str(mounts / text.removeprefix("/")) if text in self.files else text
            for text in self.arguments
        ]
        command = self.command or [sys.executable, "-m", "rsdl"]  # the image's entry point
        with log.open("ab") as said:
            return subprocess.Popen(
                [*within, *command, *arguments, *overrides],
                cwd=folder, env={**self.environment, **environment},
                stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True,
            )  # fmt: skip


def start(job: Manifest, cluster: Cluster, index: int | None = None) -> Process:
    """Return how the container of a Job's pod starts.

    Args:
        job: The Job.
        cluster: What else there is.
        index: Of the pod, for an Indexed Job.

    Raises:
        KeyError: If it refers to what is not there.
    """
    template = job.body["spec"]["template"]
    (container,) = template["spec"]["containers"]
    # As the Job controller labels its pods.
    metadata = {
        "labels": {
            **template["metadata"]["labels"],
            "batch.kubernetes.io/job-name": job.name,
            "batch.kubernetes.io/controller-uid": f"uid-of-{job.name}",
        },
        "annotations": dict(template["metadata"].get("annotations", {})),
    }
    if index is not None:
        metadata["annotations"]["batch.kubernetes.io/job-completion-index"] = str(index)
    environment: dict[str, str] = {}
    for variable in container["env"]:
        source = variable.get("valueFrom")
        if source is None:
            environment[variable["name"]] = fill(variable["value"], environment)
        else:
            environment[variable["name"]] = read(source, metadata, cluster)
    if index is not None:
        environment["JOB_COMPLETION_INDEX"] = str(index)
    return Process(
        [fill(text, environment) for text in container.get("command", ())],
        [fill(text, environment) for text in container.get("args", ())],
        environment,
        dict(mounted_files(template["spec"], cluster)),
    )


def mounted_files(pod: Mapping[str, Any], cluster: Cluster) -> Iterator[tuple[str, str]]:
    """Yield path and text of what is mounted from config maps."""
    (container,) = pod["containers"]
    maps = {each["name"]: each["configMap"] for each in pod["volumes"] if "configMap" in each}
    for mount in container["volumeMounts"]:
        if mount["name"] in maps:
            assert mount["readOnly"] is True
            for name, text in cluster.config_maps[maps[mount["name"]]["name"]].items():
                yield f"{mount['mountPath']}/{name}", text


def read(source: Mapping[str, Any], metadata: Mapping[str, Any], cluster: Cluster) -> str:
    if "configMapKeyRef" in source:
        key = source["configMapKeyRef"]
        return cluster.config_maps[key["name"]][key["key"]]
    if "secretKeyRef" in source:
        key = source["secretKeyRef"]
        return cluster.secrets[key["name"]][key["key"]]
    found = FIELD.fullmatch(source["fieldRef"]["fieldPath"])
    assert found, source
    value: str = metadata[found[1]][found[2]]
    return value


def fill(text: str, environment: Mapping[str, str]) -> str:
    def replace(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        return environment.get(match[2], match[0])

    return REFERENCE.sub(replace, text)
