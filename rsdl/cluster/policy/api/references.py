"""References between objects: a referenced object of the set must have the referenced keys.

Secrets are created by hand and are never part of a set of manifests, so they are not checked.
"""

from collections.abc import Iterator

from rsdl.cluster.policy.field import Field
from rsdl.cluster.policy.objects import Pod
from rsdl.cluster.policy.syntax import nearest
from rsdl.cluster.policy.violation import Finding, Rule


def check_keys(pod: Pod) -> Iterator[Finding]:
    """Yield references to keys that a ConfigMap of the set does not have."""
    for reference in _key_references(pod):
        name, key = reference["name"].text, reference["key"]
        found = pod.owner.manifest_set.find("ConfigMap", pod.owner, name)
        if found is None or reference["optional"].value is True or not key.text:
            continue
        keys = [*found.root["data"].members, *found.root["binaryData"].members]
        if key.text not in keys:
            near = nearest(key.text, keys)
            remedy = f'did you mean "{near}"?' if near else "add it, or write optional: true"
            yield key.violation(f'ConfigMap {name} has no key "{key.text}"', remedy)


def check_absent(pod: Pod) -> Iterator[Finding]:
    """Yield referenced objects that must exist in the cluster, since the set lacks them."""
    told = set()
    for kind, name in _named(pod):
        if (kind, name.text) in told:
            continue
        told.add((kind, name.text))
        if name.text and pod.owner.manifest_set.find(kind, pod.owner, name.text) is None:
            problem = f"{kind} {name.text} is not in this set"
            yield name.violation(problem, "see that it is in the cluster")


def _named(pod: Pod) -> Iterator[tuple[str, Field]]:
    if pod.spec["serviceAccountName"].text != "default":
        yield "ServiceAccount", pod.spec["serviceAccountName"]
    for volume in pod.spec["volumes"]:
        yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
        if volume["configMap"]["optional"].value is not True:
            yield "ConfigMap", volume["configMap"]["name"]
    for container in pod.all_containers:
        for source in container["envFrom"]:
            if source["configMapRef"]["optional"].value is not True:
                yield "ConfigMap", source["configMapRef"]["name"]
    for reference in _key_references(pod):
        if reference["optional"].value is not True:
            yield "ConfigMap", reference["name"]


def _key_references(pod: Pod) -> Iterator[Field]:
    for container in pod.all_containers:
        for variable in container["env"]:
            if variable["valueFrom"]["configMapKeyRef"]:
                yield variable["valueFrom"]["configMapKeyRef"]


PODS: tuple[Rule[Pod], ...] = (
    Rule("config-map-key", "ConfigMaps of the set have the keys that pods read", "error",
         check_keys),
    Rule("reference", "what pods name comes along, or is in the cluster", "note", check_absent),
)  # fmt: skip
