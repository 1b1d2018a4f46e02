"""Where the nodes of a run meet, as the commands of containers have it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from rsdl.cluster.policy.field import Field
from rsdl.cluster.policy.objects import ManifestSet, Pod
from rsdl.cluster.policy.study.command import PROGRAM, find_training

SERVE = "rendezvous"


@dataclass(frozen=True, slots=True)
class Rendezvous:
    """A place where nodes meet.

    Attributes:
        endpoint: ``HOST:PORT``; empty for a container that serves it.
        run_id: Rendezvous id; empty where none is given.
        place: The field that holds the command.
    """

    endpoint: str
    run_id: str
    place: Field

    @property
    def host(self) -> str:
        """The host, without its port."""
        return self.endpoint.rpartition(":")[0] or self.endpoint


def find_rendezvous(pod: Pod) -> Rendezvous | None:
    """Return where the run of a pod meets, or what the pod serves; ``None`` if neither."""
    training = find_training(pod)
    if training is not None:
        words = pod.words(training.container)
        endpoint = _option(words, "--rdzv-endpoint")
        run_id = _option(words, "--rdzv-id")
        return Rendezvous(endpoint, run_id, training.place) if endpoint else None
    for container in pod.containers:
        words = pod.words(container)
        if words[:1] == [SERVE] or words[:2] == [PROGRAM, SERVE]:
            place = container["args"] if container["args"] else container["command"]
            return Rendezvous("", _option(words, "--rdzv-id"), place)
    return None


@lru_cache(maxsize=1)
def all_of(manifest_set: ManifestSet) -> tuple[tuple[Pod, Rendezvous], ...]:
    """Return the pods of a set that meet others, or serve those that do."""
    found = ((pod, find_rendezvous(pod)) for pod in manifest_set.pods)
    return tuple((pod, place) for pod, place in found if place is not None)


def nodes_beside(pod: Pod) -> list[Pod]:
    """Return the pods that meet where a pod does, itself included."""
    here, space = find_rendezvous(pod), pod.owner.manifest.namespace
    if here is None:
        return [pod]
    return [
        other
        for other, there in all_of(pod.owner.manifest_set)
        if (there.endpoint, other.owner.manifest.namespace) == (here.endpoint, space)
    ]


def host_names(pod: Pod) -> list[str]:
    """Return the host names of the pods of an Indexed Job, without their subdomain."""
    if pod.job is None or pod.job["completionMode"].text != "Indexed":
        return []
    return [f"{pod.owner.name}-{index}" for index in range(pod.job["completions"].integer or 0)]


def _option(words: Sequence[str], name: str) -> str:
    for at, word in enumerate(words):
        if word == name:
            return words[at + 1] if at + 1 < len(words) else ""
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return ""
