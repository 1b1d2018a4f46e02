"""Requests close to limits: the scheduler fills nodes by requests."""

from collections.abc import Iterator

from rsdl.cluster.nautilus import MANY_PODS, MAX_RATIO_PERCENT
from rsdl.cluster.policy.api.resources import NATIVE
from rsdl.cluster.policy.field import Field
from rsdl.cluster.policy.objects import Pod
from rsdl.cluster.policy.quantity import parse_quantity, show_amount
from rsdl.cluster.policy.violation import Finding, Rule


def check_missing(pod: Pod) -> Iterator[Finding]:
    """Yield containers without requests or limits."""
    for container in pod.all_containers:
        for resource in ("cpu", "memory"):
            request = container["resources"]["requests"][resource]
            limit = container["resources"]["limits"][resource]
            if not limit:
                meant = request.value if request else "what it needs"
                yield limit.violation("is required", f"set {meant}, within 20% of the request")


def check_ratio(pod: Pod) -> Iterator[Finding]:
    """Yield limits more than 20% above their requests."""
    for request, limit in _pairs(pod):
        asked, most = parse_quantity(request.value), parse_quantity(limit.value)
        if asked is None or most is None or asked < 0 or most * 100 <= asked * MAX_RATIO_PERCENT:
            continue
        times = f", {float(most / asked):.2f} times the request {request.value}" if asked else ""
        allowed = show_amount(
            asked * MAX_RATIO_PERCENT / 100, binary=not limit.path.endswith(".cpu")
        )
        yield limit.violation(
            f"is {limit.value}{times or ', the request is 0'}; 1.20 times is allowed",
            f"lower it to {allowed}, or raise the request" if asked else "raise the request",
        )


def check_equal(pod: Pod) -> Iterator[Finding]:
    """Yield limits that differ from requests where many pods run at once."""
    running = pod.owner.manifest_set.num_pods
    if running <= MANY_PODS:
        return
    for request, limit in _pairs(pod):
        if parse_quantity(request.value) != parse_quantity(limit.value):
            yield limit.violation(
                f"is {limit.value}, the request {request.value}; {running} pods run at once, and "
                f"above {MANY_PODS} both must be equal",
                f"write {request.value}, or run fewer at once",
            )


def _pairs(pod: Pod) -> Iterator[tuple[Field, Field]]:
    for container in pod.all_containers:
        for resource in NATIVE:
            request = container["resources"]["requests"][resource]
            limit = container["resources"]["limits"][resource]
            if request and limit:
                yield request, limit


PODS: tuple[Rule[Pod], ...] = (
    Rule("limits-missing", "containers have limits for cpu and memory", "error", check_missing),
    Rule("limits-ratio", "limits are within 20% of requests", "error", check_ratio),
    Rule("limits-equal", "limits equal requests above 100 pods", "error", check_equal),
)
