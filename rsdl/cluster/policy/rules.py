"""All rules, in the groups that a profile selects."""

from dataclasses import dataclass

from rsdl.cluster.policy import schema
from rsdl.cluster.policy.api import containers, jobs, names, references, resources, values
from rsdl.cluster.policy.nautilus import (
    gpus,
    idle_pods,
    requests_limits,
    scheduling,
    storage,
    volumes,
)
from rsdl.cluster.policy.objects import Object, Pod
from rsdl.cluster.policy.study import configs, contract, nodes
from rsdl.cluster.policy.violation import Rule


@dataclass(frozen=True, slots=True)
class Group:
    """Rules of one origin.

    Attributes:
        title: Name of the origin.
        objects: Rules for every object.
        pods: Rules for every object that is a pod or creates pods.
    """

    title: str
    objects: tuple[Rule[Object], ...] = ()
    pods: tuple[Rule[Pod], ...] = ()

    @property
    def rules(self) -> tuple[Rule[Object] | Rule[Pod], ...]:
        """All rules of the group."""
        return (*self.objects, *self.pods)


SCHEMA = Group("schema", schema.OBJECTS)
API = Group(
    "API server",
    names.OBJECTS,
    (
        *names.PODS,
        *containers.PODS,
        *resources.PODS,
        *values.PODS,
        *jobs.PODS,
        *references.PODS,
    ),
)
NAUTILUS = Group(
    "Nautilus",
    (*idle_pods.OBJECTS, *scheduling.OBJECTS, *storage.OBJECTS),
    (
        *requests_limits.PODS,
        *idle_pods.PODS,
        *gpus.PODS,
        *scheduling.PODS,
        *storage.PODS,
        *volumes.PODS,
    ),
)
STUDY = Group("study", (), (*configs.PODS, *contract.PODS, *nodes.PODS))

PROFILES = {"none": (SCHEMA, API), "nautilus": (SCHEMA, API, NAUTILUS, STUDY)}
