"""Quantities, requests and limits."""

from collections.abc import Iterator
from fractions import Fraction

from rsdl.cluster.policy.field import Field
from rsdl.cluster.policy.objects import Object, Pod
from rsdl.cluster.policy.quantity import parse_quantity
from rsdl.cluster.policy.syntax import key_fault, nearest
from rsdl.cluster.policy.violation import Finding, Rule

NATIVE = ("cpu", "memory", "ephemeral-storage")
BYTES = ("memory", "ephemeral-storage", "storage")


def is_extended(resource: str) -> bool:
    """Return whether a resource is a device such as nvidia.com/gpu: whole, never overcommitted."""
    return "/" in resource and "kubernetes.io/" not in resource


def amounts(pod: Pod) -> Iterator[tuple[str, Field]]:
    """Yield each request and limit of a pod's containers with its resource name."""
    for container in pod.all_containers:
        for part in ("requests", "limits"):
            yield from container["resources"][part].members.items()


def claims(owner: Object) -> Iterator[Field]:
    """Yield the spec of every volume claim that an object is or creates."""
    if owner.kind == "PersistentVolumeClaim":
        yield owner.spec
    for template in owner.spec["volumeClaimTemplates"]:
        yield template["spec"]
    if owner.pod is not None:
        for volume in owner.pod.spec["volumes"]:
            if volume["ephemeral"]["volumeClaimTemplate"]["spec"]:
                yield volume["ephemeral"]["volumeClaimTemplate"]["spec"]


def check_quantities(pod: Pod) -> Iterator[Finding]:
    """Yield amounts that are invalid or negative."""
    for _, amount in amounts(pod):
        yield from _wrong_amount(amount)
    for volume in pod.spec["volumes"]:
        if volume["emptyDir"]["sizeLimit"]:
            yield from _wrong_amount(volume["emptyDir"]["sizeLimit"])


def check_fractions(pod: Pod) -> Iterator[Finding]:
    """Yield memory in fractions of a byte: 500m is half a byte."""
    for resource, amount in amounts(pod):
        parsed, text = parse_quantity(amount.value), str(amount.value)
        if resource not in BYTES or parsed is None:
            continue
        if parsed.denominator != 1 or text.endswith("m"):
            remedy = f"write {text[:-1]}Mi" if text.endswith("m") else "write whole bytes"
            yield amount.violation(f"is {text}, which is {float(parsed):g} bytes", remedy)


def check_resource_names(pod: Pod) -> Iterator[Finding]:
    """Yield resource names that are neither native nor of a vendor."""
    for resource, amount in amounts(pod):
        if resource in NATIVE or resource.startswith("hugepages-"):
            continue
        if "/" not in resource:
            near = "nvidia.com/gpu" if resource == "gpu" else nearest(resource, NATIVE)
            remedy = f'did you mean "{near}"?' if near else "write vendor/name"
            yield amount.violation(f'"{resource}" is no resource', remedy)
        elif fault := key_fault(resource):
            yield amount.violation(f"the name {fault}", "write vendor/name")


def check_order(pod: Pod) -> Iterator[Finding]:
    """Yield requests above their limits."""
    for container in pod.all_containers:
        for resource, limit in container["resources"]["limits"].members.items():
            request = container["resources"]["requests"][resource]
            asked, most = parse_quantity(request.value), parse_quantity(limit.value)
            if asked is None or most is None or is_extended(resource) or asked <= most:
                continue
            problem = f"is {request.value}, above its limit {limit.value}"
            yield request.violation(problem, f"lower it, or raise {limit.path}")


def check_device_fractions(pod: Pod) -> Iterator[Finding]:
    """Yield fractions of a device."""
    for resource, amount in amounts(pod):
        parsed = parse_quantity(amount.value)
        if is_extended(resource) and parsed is not None and parsed.denominator != 1:
            problem = f"is {amount.value}: a device is not divided"
            yield amount.violation(problem, "ask for whole ones")


def check_device_limits(pod: Pod) -> Iterator[Finding]:
    """Yield devices whose request and limit differ."""
    for container in pod.all_containers:
        limits = container["resources"]["limits"]
        for resource, request in container["resources"]["requests"].members.items():
            if not is_extended(resource):
                continue
            limit = limits[resource]
            if not limit:
                yield limit.violation(
                    "is required where devices are requested", f"set {request.value}"
                )
            elif parse_quantity(request.value) != parse_quantity(limit.value):
                problem = (
                    f"is {limit.value}, the request is {request.value}: devices are not shared"
                )
                yield limit.violation(problem, "write the same number twice")


def _wrong_amount(amount: Field) -> Iterator[Finding]:
    parsed = parse_quantity(amount.value)
    if parsed is None:
        remedy = "write for example 500m, 4, 32Gi or 1e9"
        yield amount.violation(f"is {amount.value!r}, which is no quantity", remedy)
    elif parsed < Fraction(0):
        yield amount.violation(f"is {amount.value}, must not be negative", "write 0 or more")


PODS: tuple[Rule[Pod], ...] = (
    Rule("quantity", "amounts are quantities of 0 or more", "error", check_quantities),
    Rule("memory-fraction", "memory is whole bytes (500m is half a byte)", "warning",
         check_fractions),
    Rule("resource-name", "resources are cpu, memory, ephemeral-storage or vendor/name", "error",
         check_resource_names),
    Rule("request-over-limit", "requests do not exceed limits", "error", check_order),
    Rule("gpu-fraction", "GPUs and other devices are whole numbers", "error",
         check_device_fractions),
    Rule("gpu-request", "requests and limits of devices are equal", "error", check_device_limits),
)  # fmt: skip
