"""Names, and selectors without matches."""

from collections.abc import Iterator

from rsdl.cluster.policy.objects import Object, Pod
from rsdl.cluster.policy.syntax import (
    MAX_LABEL,
    label_fault,
    nearest,
    service_fault,
    subdomain_fault,
)
from rsdl.cluster.policy.violation import Finding, Rule

PATH_NAMES = {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"}  # "system:x" is a name
CRON_SUFFIX = 11  # characters that a CronJob appends to the names of its Jobs


def check_name(owner: Object) -> Iterator[Finding]:
    """Yield a name that the API server rejects."""
    metadata = owner.root["metadata"]
    name = metadata["name"]
    if not name.text:
        if not metadata["generateName"].text and not isinstance(name.value, int | float):
            yield name.violation("is required", "name the object")
        return
    if owner.kind in PATH_NAMES:
        return
    find_fault = {"Service": service_fault, "Namespace": label_fault}.get(
        owner.kind, subdomain_fault
    )
    if fault := find_fault(name.text):
        yield name.violation(fault, f'write for example "{_mend(name.text)}"')


def check_job_name(owner: Object) -> Iterator[Finding]:
    """Yield a Job name that is too long or invalid as a label of its pods."""
    name = owner.root["metadata"]["name"]
    limit = MAX_LABEL - CRON_SUFFIX if owner.kind == "CronJob" else MAX_LABEL
    if owner.job is None or not name.text:
        return
    if len(name.text) > limit:
        problem = f"has {len(name.text)} characters; its pods carry it as a label, {limit} at most"
        yield name.violation(problem, "shorten it")
    elif owner.kind == "Job" and owner.job["completionMode"].text == "Indexed":
        last = (owner.job["completions"].integer or 1) - 1
        if fault := label_fault(f"{name.text}-{last}"):
            yield name.violation(
                f"is no host name for pod {last}: {fault}", "shorten it, without dots"
            )


def check_service(owner: Object) -> Iterator[Finding]:
    """Yield a Service that selects none of the pods in the set."""
    selector = owner.spec["selector"]
    neighbours = [
        pod
        for pod in owner.manifest_set.pods
        if pod.owner.manifest.namespace == owner.manifest.namespace
    ]
    if owner.kind != "Service" or not selector.members or not neighbours:
        return
    wanted = {key: value.text for key, value in selector.members.items()}
    if not any(wanted.items() <= pod.labels.items() for pod in neighbours):
        near = nearest(next(iter(wanted.values())), [pod.owner.name for pod in neighbours])
        shown = ", ".join(f"{key}={value}" for key, value in wanted.items())
        hint = f'; is "{near}" meant? Kustomize renames no selector' if near else ""
        yield selector.violation(
            f"{shown} selects no pod of this set", f"use labels that its pods carry{hint}"
        )


def check_subdomain(pod: Pod) -> Iterator[Finding]:
    """Yield a subdomain without the headless Service that it needs."""
    subdomain = pod.spec["subdomain"]
    if not subdomain.text:
        return
    service = pod.owner.manifest_set.find("Service", pod.owner, subdomain.text)
    if service is None:
        problem = f'"{subdomain.text}" is no Service of this set: the pods get no host names'
        yield subdomain.violation(problem, "add a Service of that name with clusterIP: None")
    elif service.spec["clusterIP"].text != "None":
        problem = f"Service {subdomain.text} is not headless: the pods get no host names"
        yield subdomain.violation(problem, "write clusterIP: None in the Service")


def check_duplicate(owner: Object) -> Iterator[Finding]:
    """Yield an object that occurs twice in the set."""
    if not owner.name:
        return
    first = owner.manifest_set.find(owner.kind, owner, owner.name)
    same_group = first is not None and _group(first) == _group(owner)
    if first is not None and first is not owner and same_group:
        problem = f"{owner.manifest.title} is also in {first.manifest.source}"
        yield owner.root["metadata"]["name"].violation(problem, "rename or remove one")


def _group(owner: Object) -> str:
    return owner.root["apiVersion"].text.rpartition("/")[0]


def _mend(name: str) -> str:
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in name.lower())
    return kept.strip("-")[:MAX_LABEL].strip("-") or "name"


OBJECTS: tuple[Rule[Object], ...] = (
    Rule("object-name", "names are DNS names of the length allowed", "error", check_name),
    Rule("job-name", "a Job's name fits the label and host names of its pods", "error",
         check_job_name),
    Rule("service-selector", "a Service selects pods that come with it", "warning", check_service),
    Rule("duplicate-object", "kind, namespace and name are there once", "error", check_duplicate),
)  # fmt: skip
PODS: tuple[Rule[Pod], ...] = (
    Rule("subdomain", "a pod's subdomain is a headless Service", "warning", check_subdomain),
)
