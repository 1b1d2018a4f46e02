"""Storage classes, access modes, and the distance between data and compute."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from rsdl.cluster import nautilus
from rsdl.cluster.policy.api.resources import claims
from rsdl.cluster.policy.api.values import selected_values
from rsdl.cluster.policy.field import Field
from rsdl.cluster.policy.objects import Object, Pod
from rsdl.cluster.policy.syntax import nearest
from rsdl.cluster.policy.violation import Finding, Rule

CLASSES = (*nautilus.CEPHFS_CLASSES, *nautilus.BLOCK_CLASSES, *nautilus.LOCAL_BLOCK)
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")  # the first takes precedence


def check_class(owner: Object) -> Iterator[Finding]:
    """Yield unknown storage classes."""
    for claim in claims(owner):
        name = claim["storageClassName"]
        if name.text and name.text not in CLASSES:
            near = nearest(name.text, CLASSES)
            remedy = f'did you mean "{near}"?' if near else "see kubectl get storageclass"
            yield name.violation(f'"{name.text}" is no storage class that we know', remedy)


def check_modes(owner: Object) -> Iterator[Finding]:
    """Yield block storage with an access mode for several nodes."""
    for claim in claims(owner):
        name = claim["storageClassName"].text or nautilus.BLOCK
        if name not in nautilus.BLOCK_CLASSES and name not in nautilus.LOCAL_BLOCK:
            continue
        for mode in claim["accessModes"]:
            if mode.text == "ReadWriteMany" and claim["volumeMode"].text != "Block":
                remedy = f"write storageClassName: {nautilus.CEPHFS}, or ReadWriteOnce"
                yield mode.violation(f"is {mode.text}; {name} is for one node at a time", remedy)


def check_volume_region(pod: Pod) -> Iterator[Finding]:
    """Yield volumes in another region than the pod."""
    here = compute_regions(pod)
    for volume in pod.spec["volumes"]:
        name = volume["persistentVolumeClaim"]["claimName"]
        claim = pod.owner.manifest_set.find("PersistentVolumeClaim", pod.owner, name.text)
        if claim is None:
            continue
        chosen = claim.spec["storageClassName"].text or nautilus.BLOCK
        there = nautilus.region_of_class(chosen)
        if here and there and here != {there}:
            problem = f"lies in {there} ({chosen}), the pod runs in {_show(here)}"
            yield name.violation(problem, "choose the storage class of the region, or the region")


def check_endpoint_region(pod: Pod) -> Iterator[Finding]:
    """Yield S3 services in another region than the pod."""
    here = compute_regions(pod)
    for field, url, there in endpoints(pod):
        if here and there and here != {there}:
            problem = f"{host_of(url)} is in {there}, the pod runs in {_show(here)}"
            yield field.violation(problem, "name the endpoint of the region, or the region")


def check_pinned(pod: Pod) -> Iterator[Finding]:
    """Yield pods that may run in another region than their S3 service."""
    if compute_regions(pod):
        return
    for _, url, there in endpoints(pod):
        if there:
            problem = f"no region is chosen, and {host_of(url)} is in {there}"
            yield pod.spec["affinity"].violation(
                problem, f"choose nodes by {nautilus.REGION_LABEL}"
            )
            return


def check_outside(pod: Pod) -> Iterator[Finding]:
    """Yield S3 services that pods reach by their external endpoint."""
    for field, url, there in endpoints(pod):
        if (host := host_of(url)) in nautilus.OUTSIDE:
            inside = next(name for name, region in nautilus.INSIDE.items() if region == there)
            problem = f"{host} is the way from outside, through a load balancer"
            yield field.violation(problem, f"write http://{inside}")


def check_endpoint(pod: Pod) -> Iterator[Finding]:
    """Yield endpoints that resemble the cluster's but are not, or that use https inside."""
    for field, url, there in endpoints(pod):
        host = host_of(url)
        if there is None and (host.startswith("rook-") or host.endswith("nrp-nautilus.io")):
            near = nearest(host, (*nautilus.INSIDE, *nautilus.OUTSIDE))
            remedy = f"did you mean {near}?" if near else f"one of {', '.join(nautilus.INSIDE)}"
            yield field.violation(f"{host} is no S3 service of the cluster", remedy)
        elif host in nautilus.INSIDE and url.startswith("https://"):
            yield field.violation("https is not spoken within the cluster", f"write http://{host}")


def endpoints(pod: Pod) -> Iterator[tuple[Field, str, str | None]]:
    """Yield the S3 service of each container: field, URL, and its region if known."""
    for container in pod.all_containers:
        known = pod.variables(container)
        name = next((name for name in ENDPOINTS if known.get(name)), None)
        if name is None or not (host := host_of(known[name])):
            continue
        field = next(
            (variable["value"] or variable["valueFrom"] for variable in container["env"]
             if variable["name"].text == name),
            container["envFrom"],
        )  # fmt: skip
        yield field, known[name], nautilus.INSIDE.get(host) or nautilus.OUTSIDE.get(host)


def compute_regions(pod: Pod) -> set[str]:
    """Return the regions that a pod is restricted to; none where it may run anywhere."""
    labels = selected_values(pod, nautilus.REGION_LABEL)
    return {region for each in labels if (region := nautilus.region_named(each.text))}


def host_of(url: str) -> str:
    """Return the host of a URL within the cluster; empty if it has none."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return ""
    return host.removesuffix(".cluster.local").removesuffix(".svc")


def _show(regions: set[str]) -> str:
    return " and ".join(sorted(regions))


OBJECTS: tuple[Rule[Object], ...] = (
    Rule("storage-class", "storage classes are known", "warning", check_class),
    Rule("access-mode", "ReadWriteMany is for CephFS, block storage for one node", "error",
         check_modes),
)  # fmt: skip
PODS: tuple[Rule[Pod], ...] = (
    Rule("volume-region", "volumes lie in the region of the pod", "error", check_volume_region),
    Rule("endpoint-region", "the S3 service is in the region of the pod", "error",
         check_endpoint_region),
    Rule("region-open", "pods that read from a region's S3 choose the region", "warning",
         check_pinned),
    Rule("endpoint-outside", "S3 is reached from within, not by the outside address", "warning",
         check_outside),
    Rule("endpoint", "the S3 service is one that the cluster has", "warning", check_endpoint),
)  # fmt: skip
