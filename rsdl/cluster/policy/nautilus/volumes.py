"""Shared memory and ephemeral storage."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise

from rsdl.cluster.policy.field import Field
from rsdl.cluster.policy.nautilus.gpus import count_gpus
from rsdl.cluster.policy.objects import Pod
from rsdl.cluster.policy.quantity import parse_quantity
from rsdl.cluster.policy.violation import Finding, Rule

SHM = "/dev/shm"
PROCESS_OPTIONS = ("--nproc-per-node", "--nproc_per_node")


def check_shm(pod: Pod) -> Iterator[Finding]:
    """Yield containers with GPUs or several processes and the default 64 MB of shared memory."""
    for container in pod.containers:
        limits = container["resources"]["limits"].members
        with_gpu = any(name.startswith("nvidia.com/") for name in limits) and count_gpus(pod)
        if not with_gpu and not _several_processes(pod.words(container)):
            continue
        mounted = [volume for mount, volume in pod.mounts(container) if _is_shm(mount)]
        if not any(volume["emptyDir"]["medium"].text == "Memory" for volume in mounted):
            problem = f"nothing in memory is mounted at {SHM}, which is 64 MB then"
            yield container["volumeMounts"].violation(
                problem, f"mount an emptyDir with medium: Memory and a sizeLimit at {SHM}"
            )


def check_memory_volumes(pod: Pod) -> Iterator[Finding]:
    """Yield memory-backed volumes that leave a container no memory: they count as its own."""
    for container in pod.containers:
        limit = parse_quantity(container["resources"]["limits"]["memory"].value)
        for _, volume in pod.mounts(container):
            size = volume["emptyDir"]["sizeLimit"]
            amount = parse_quantity(size.value)
            in_memory = volume["emptyDir"]["medium"].text == "Memory"
            if in_memory and amount is not None and limit is not None and amount >= limit:
                shown = container["resources"]["limits"]["memory"].value
                problem = f"is {size.value}, and counts as memory, of which there is {shown}"
                yield size.violation(problem, "lower it, or raise the memory limit")


def check_unbounded(pod: Pod) -> Iterator[Finding]:
    """Yield emptyDir volumes without a size limit."""
    for volume in pod.spec["volumes"]:
        # A volume without a type is an emptyDir too.
        if set(volume.members) <= {"name", "emptyDir"} and not volume["emptyDir"]["sizeLimit"]:
            yield volume["emptyDir"]["sizeLimit"].violation(
                f'volume "{volume["name"].text}" may grow without end', "set sizeLimit"
            )


def check_disk_limit(pod: Pod) -> Iterator[Finding]:
    """Yield containers without a limit of ephemeral storage."""
    for container in pod.all_containers:
        amount = container["resources"]["limits"]["ephemeral-storage"]
        if not amount:
            problem = "is required: logs and files fill the node's disk"
            yield amount.violation(problem, "set what the container writes, emptyDirs included")


def check_disk_sum(pod: Pod) -> Iterator[Finding]:
    """Yield emptyDir volumes larger than the pod's limit of ephemeral storage."""
    limits = [container["resources"]["limits"]["ephemeral-storage"] for container in pod.containers]
    allowed = [parse_quantity(limit.value) for limit in limits]
    sizes = [size for volume in pod.spec["volumes"] if (size := _disk_size(volume)) is not None]
    if not limits or None in allowed or not sizes:
        return
    most = sum(amount for amount in allowed if amount is not None)
    if sum(sizes) > most:
        values = " + ".join(str(limit.value) for limit in limits)
        problem = (
            f"is {values}, the emptyDirs on disk are {float(sum(sizes)) / 2**30:.1f}Gi together: "
            "a pod that fills them is evicted"
        )
        yield limits[0].violation(problem, "raise it, or lower a sizeLimit")


def _disk_size(volume: Field) -> Fraction | None:
    on_disk = not volume["emptyDir"]["medium"].text
    return parse_quantity(volume["emptyDir"]["sizeLimit"].value) if on_disk else None


def _is_shm(mount: Field) -> bool:
    return mount["mountPath"].text.rstrip("/") == SHM


def _several_processes(words: list[str]) -> bool:
    """Return whether a command starts several processes on the node."""
    text = [part for word in words for part in word.replace("=", " ").split()]
    for option in (*PROCESS_OPTIONS, "trainer.devices"):
        for name, value in pairwise(text):
            if name == option and value.isdigit() and int(value) > 1:
                return True
    return False


PODS: tuple[Rule[Pod], ...] = (
    Rule("shm", "pods with GPUs or several processes have /dev/shm in memory", "error", check_shm),
    Rule("shm-memory", "volumes in memory are below the memory limit", "warning",
         check_memory_volumes),
    Rule("empty-dir-size", "emptyDirs have a sizeLimit", "error", check_unbounded),
    Rule("disk-limit", "containers have a limit for ephemeral-storage", "error", check_disk_limit),
    Rule("disk-sum", "emptyDirs fit within the limit for ephemeral-storage", "warning",
         check_disk_sum),
)  # fmt: skip
