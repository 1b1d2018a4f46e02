"""Priority classes, tolerations, and the number of Jobs."""

from collections.abc import Iterator

from rsdl.cluster import nautilus
from rsdl.cluster.policy.objects import Object, Pod
from rsdl.cluster.policy.syntax import nearest
from rsdl.cluster.policy.violation import Finding, Rule


def check_priority(pod: Pod) -> Iterator[Finding]:
    """Yield priority classes that the cluster does not allow users."""
    priority = pod.spec["priorityClassName"]
    if priority.text and priority.text not in nautilus.PRIORITIES:
        near = nearest(priority.text, nautilus.PRIORITIES)
        known = ", ".join(nautilus.PRIORITIES)
        remedy = f'did you mean "{near}"?' if near else f"leave it out, or one of {known}"
        yield priority.violation(f'"{priority.text}" is not accepted', remedy)


def check_closed(pod: Pod) -> Iterator[Finding]:
    """Yield tolerations of taints on broken nodes or on nodes that run the cluster itself."""
    for toleration in pod.spec["tolerations"]:
        key = toleration["key"].text
        if not key and toleration["operator"].text == "Exists":
            yield toleration.violation(
                "tolerates every taint, also of broken nodes", "name the taint you are entitled to"
            )
        elif _is_closed(key):
            yield toleration["key"].violation(f'"{key}" is never to be tolerated', "leave it out")


def check_entitled(pod: Pod) -> Iterator[Finding]:
    """Yield tolerations that need an entitlement."""
    for toleration in pod.spec["tolerations"]:
        key = toleration["key"].text
        if key in nautilus.ENTITLED_TAINTS:
            problem = f'"{key}" is for those who are entitled to it'
            yield toleration["key"].violation(problem, "leave it out unless you are")
        elif key and not key.startswith("node.kubernetes.io/") and not _is_closed(key):
            known = " and ".join(nautilus.ENTITLED_TAINTS)
            problem = f'"{key}" is none of the taints that users tolerate, which are {known}'
            yield toleration["key"].violation(problem, "leave it out")


def _is_closed(key: str) -> bool:
    return bool(set(key.replace("/", " ").replace(".", " ").split()) & set(nautilus.CLOSED_TAINTS))


def check_count(owner: Object) -> Iterator[Finding]:
    """Yield the first Job above the limit."""
    jobs = [other for other in owner.manifest_set.objects if other.kind == "Job"]
    if len(jobs) > nautilus.MAX_JOBS and owner is jobs[nautilus.MAX_JOBS]:
        problem = f"the set has {len(jobs)} Jobs, {nautilus.MAX_JOBS} are allowed at once"
        yield owner.root["kind"].violation(
            problem, "apply fewer, or let one Indexed Job do several"
        )


def check_backoff(owner: Object) -> Iterator[Finding]:
    """Yield Jobs that fail at the first failed pod."""
    if owner.job is not None and owner.job["backoffLimit"].integer == 0:
        problem = "is 0, so that one lost node fails the Job"
        yield owner.job["backoffLimit"].violation(problem, "write 3 or more")


PODS: tuple[Rule[Pod], ...] = (
    Rule("priority-class", "priority classes are those that users may have", "error",
         check_priority),
    Rule("closed-taint", "system and issue taints are never tolerated", "error", check_closed),
    Rule("entitled-taint", "taints are tolerated by those entitled", "warning", check_entitled),
)  # fmt: skip
OBJECTS: tuple[Rule[Object], ...] = (
    Rule("job-count", "at most 400 Jobs at once", "error", check_count),
    Rule("backoff-zero", "Jobs try again: backoffLimit above 0", "warning", check_backoff),
)
