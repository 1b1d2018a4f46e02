"""Values that a cluster accepts silently although they make no sense."""

from collections.abc import Iterator

from rsdl.cluster.policy.field import Field
from rsdl.cluster.policy.objects import Pod
from rsdl.cluster.policy.violation import Finding, Rule


def check_idle(pod: Pod) -> Iterator[Finding]:
    """Yield Jobs that run no pod, or whose deadline is over at the start."""
    if pod.job is None:
        return
    for name in ("parallelism", "completions", "activeDeadlineSeconds"):
        if pod.job[name].integer == 0:
            yield pod.job[name].violation("is 0, so nothing runs", "write 1 or more")


def check_medium(pod: Pod) -> Iterator[Finding]:
    """Yield unknown emptyDir media: the pod never starts."""
    for volume in pod.spec["volumes"]:
        medium = volume["emptyDir"]["medium"]
        if medium.text not in ("", "Memory") and not medium.text.startswith("HugePages"):
            yield medium.violation(f'"{medium.text}" is no medium', "write Memory, or leave it out")


def check_affinity(pod: Pod) -> Iterator[Finding]:
    """Yield comparisons with a value that is not an integer: no node ever matches."""
    for term in node_terms(pod):
        for expression in term["matchExpressions"]:
            operator, values = expression["operator"].text, list(expression["values"])
            numbers = [value for value in values if value.text.lstrip("-").isdigit()]
            if operator in ("Gt", "Lt") and (len(values) != 1 or not numbers):
                yield expression["values"].violation(
                    f"must be one whole number with {operator}", 'write for example ["12"]'
                )


def node_terms(pod: Pod) -> Iterator[Field]:
    """Yield the node selector terms, required or preferred."""
    node = pod.spec["affinity"]["nodeAffinity"]
    yield from node["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    for choice in node["preferredDuringSchedulingIgnoredDuringExecution"]:
        yield choice["preference"]


def selected_values(pod: Pod, label: str) -> Iterator[Field]:
    """Yield the values of a node label that a pod selects, required or preferred."""
    if pod.spec["nodeSelector"][label].text:
        yield pod.spec["nodeSelector"][label]
    for term in node_terms(pod):
        for expression in term["matchExpressions"]:
            if expression["key"].text == label and expression["operator"].text == "In":
                yield from (value for value in expression["values"] if value.text)


PODS: tuple[Rule[Pod], ...] = (
    Rule("runs-nothing", "a Job has pods to run, and time", "warning", check_idle),
    Rule("medium", "an empty volume lies on disk or in memory", "error", check_medium),
    Rule("node-affinity", "Gt and Lt compare with one whole number", "error", check_affinity),
)
