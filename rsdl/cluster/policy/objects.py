"""Objects, their pods and their set, as the rules see them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from rsdl.cluster.load import Manifest
from rsdl.cluster.policy.field import Field
from rsdl.cluster.policy.study.facts import Study

JOB_LABELS = ("job-name", "batch.kubernetes.io/job-name")
OF_LABEL = re.compile(r"metadata\.labels\['([^']+)'\]")
# Path of the pod template in an object.
TEMPLATES = {
    "Pod": (),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "Deployment": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicationController": ("spec", "template"),
}


@dataclass(frozen=True, eq=False)
class Object:
    """One object of a set.

    Attributes:
        manifest: The manifest.
        manifest_set: The set that contains it.
    """

    manifest: Manifest
    manifest_set: "ManifestSet"

    @property
    def kind(self) -> str:
        """Its kind."""
        return self.manifest.kind

    @property
    def name(self) -> str:
        """Its name."""
        return self.manifest.name

    @property
    def root(self) -> Field:
        """The whole object."""
        return Field("", self.manifest.body)

    @property
    def spec(self) -> Field:
        """Its ``spec``."""
        return self.root["spec"]

    @property
    def job(self) -> Field | None:
        """The spec of a Job, or of a CronJob's Jobs."""
        if self.kind == "CronJob":
            return self.spec["jobTemplate"]["spec"]
        return self.spec if self.kind == "Job" else None

    @property
    def pod(self) -> "Pod | None":
        """The pods that it is or creates."""
        if self.kind not in TEMPLATES:
            return None
        template = self.root
        for key in TEMPLATES[self.kind]:
            template = template[key]
        return Pod(self, template)


@dataclass(frozen=True, eq=False)
class Pod:
    """The pods of one object, all identical.

    Attributes:
        owner: The object.
        template: Their metadata and spec.
    """

    owner: Object
    template: Field

    @property
    def spec(self) -> Field:
        """Their ``spec``."""
        return self.template["spec"]

    @property
    def job(self) -> Field | None:
        """The spec of the Job that creates them, if any."""
        return self.owner.job

    @property
    def containers(self) -> list[Field]:
        """The containers that run for the pod's whole life."""
        return list(self.spec["containers"])

    @property
    def all_containers(self) -> list[Field]:
        """The containers and the init containers."""
        return [*self.containers, *self.spec["initContainers"]]

    @property
    def number(self) -> int:
        """Number of pods that run at once."""
        if self.job is not None:
            parallel = self.job["parallelism"].integer
            parallel = 1 if parallel is None else parallel
            completions = self.job["completions"].integer
            return max(parallel if completions is None else min(parallel, completions), 0)
        if self.owner.kind in ("Pod", "DaemonSet"):
            return 1
        replicas = self.owner.spec["replicas"].integer
        return 1 if replicas is None else max(replicas, 0)

    @property
    def labels(self) -> dict[str, str]:
        """Their labels, including those that the cluster adds."""
        found = self.template["metadata"]["labels"].members
        labels = {key: value.text for key, value in found.items()}
        if self.owner.kind == "Job":
            labels |= dict.fromkeys(JOB_LABELS, self.owner.name)
        return labels

    @property
    def volumes(self) -> dict[str, Field]:
        """Volumes by name."""
        return {volume["name"].text: volume for volume in self.spec["volumes"]}

    def mounts(self, container: Field) -> Iterator[tuple[Field, Field]]:
        """Yield each mount of a container with its volume."""
        volumes = self.volumes
        for mount in container["volumeMounts"]:
            if (name := mount["name"].text) in volumes:
                yield mount, volumes[name]

    def variables(self, container: Field) -> dict[str, str]:
        """Return a container's environment as far as the set defines it.

        Values from Secrets, from the node or from objects outside the set are unknown.
        """
        known: dict[str, str] = {}
        labels = self.labels
        for source in container["envFrom"]:
            prefix = source["prefix"].text
            data = self.owner.manifest_set.config_map(
                self.owner, source["configMapRef"]["name"].text
            )
            known |= {f"{prefix}{key}": value for key, value in data.items()}
        for variable in container["env"]:
            name, given = variable["name"].text, variable["value"].text
            reference = variable["valueFrom"]["configMapKeyRef"]
            if reference:
                data = self.owner.manifest_set.config_map(self.owner, reference["name"].text)
                if reference["key"].text in data:
                    known[name] = data[reference["key"].text]
            elif found := OF_LABEL.fullmatch(variable["valueFrom"]["fieldRef"]["fieldPath"].text):
                if found[1] in labels:
                    known[name] = labels[found[1]]
            elif not variable["valueFrom"]:
                known[name] = expand(given, known)
        return known

    def words(self, container: Field) -> list[str]:
        """Return command and arguments, with ``$(NAME)`` expanded where NAME is known."""
        known = self.variables(container)
        texts = container["command"].texts + container["args"].texts
        return [expand(text, known) for text in texts]


class ManifestSet:
    """The objects that are applied together.

    Args:
        manifests: The manifests.
        study: Configs and measurements of the study.
    """

    def __init__(self, manifests: Sequence[Manifest], study: Study | None = None) -> None:
        self.study = study or Study()
        self.objects = tuple(Object(manifest, self) for manifest in manifests)

    @cached_property
    def pods(self) -> tuple[Pod, ...]:
        """The pods of all objects."""
        return tuple(pod for owner in self.objects if (pod := owner.pod) is not None)

    @cached_property
    def num_pods(self) -> int:
        """Number of pods if all run at once."""
        return sum(pod.number for pod in self.pods)

    @cached_property
    def _by_name(self) -> dict[tuple[str, str | None, str], Object]:
        return {(o.kind, o.manifest.namespace, o.name): o for o in reversed(self.objects)}

    def find(self, kind: str, beside: Object, name: str) -> Object | None:
        """Return the object of a kind and name in the namespace of another, if the set has it."""
        return self._by_name.get((kind, beside.manifest.namespace, name))

    def config_map(self, beside: Object, name: str) -> dict[str, str]:
        """Return the data of a ConfigMap; empty if the set lacks it."""
        found = self.find("ConfigMap", beside, name)
        if found is None:
            return {}
        return {key: value.text for key, value in found.root["data"].members.items()}


def expand(text: str, known: dict[str, str]) -> str:
    """Return a text with each ``$(NAME)`` expanded as Kubernetes does: ``$$`` is one ``$``."""
    parts, at = [], 0
    while at < len(text):
        if text.startswith("$$", at):
            parts.append("$")
            at += 2
            continue
        end = text.find(")", at) if text.startswith("$(", at) else -1
        if end > 0 and text[at + 2 : end] in known:
            parts.append(known[text[at + 2 : end]])
            at = end + 1
        else:
            parts.append(text[at])
            at += 1
    return "".join(parts)
