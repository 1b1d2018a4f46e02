"""What must hold for every object of ours, whatever it is composed of."""

from collections.abc import Iterator, Sequence
from typing import Any

from rsdl.cluster.labels import RENDEZVOUS, ROLE
from rsdl.cluster.load import Manifest
from rsdl.cluster.nautilus import CARDS
from rsdl.cluster.wheels import WHEELS
from rsdl.commands.k8s_check import check_set
from tests.k8s.kubelet import Cluster, Process, start

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
MEANT = ("gpu-quota", "gpus-at-once")  # warnings on what a user has chosen


def cluster_of(objects: Sequence[Manifest]) -> Cluster:
    """Return the objects that pods refer to, and the keys of the bucket."""
    return Cluster.of(objects, {"rsdl-s3": KEYS})


def check_objects(objects: Sequence[Manifest]) -> None:
    """Check that objects break no rule, the schema included, and that their pods are confined."""
    for found in check_set(objects, "nautilus"):
        assert found.severity == "note" or found.rule in MEANT, found
    for each in objects:
        if each.kind in ("Job", "Pod"):
            check_confined(pod_of(each))


def check_jobs(objects: Sequence[Manifest], cuda: str = "13") -> Iterator[tuple[Manifest, Process]]:
    """Check Jobs that train, and all that comes with them; yield each with its first pod."""
    check_objects(objects)
    cluster = cluster_of(objects)
    for job in objects:
        if job.kind == "Job" and job.labels.get(ROLE) != RENDEZVOUS:
            yield job, check_job(job, cluster, cuda)


def check_job(job: Manifest, cluster: Cluster, cuda: str = "13") -> Process:
    """Check what no rule says of a Job that trains; return how its first pod starts."""
    spec = job.body["spec"]
    assert spec["activeDeadlineSeconds"] > 0 and spec["ttlSecondsAfterFinished"] == 604800
    process = start(job, cluster, 0 if spec.get("completionMode") == "Indexed" else None)
    assert process.arguments[:2] == ["train", "/config/config.yaml"]
    assert process.arguments[1] in process.files
    if ROLE not in job.labels:
        check_nodes(job, process)
    check_card(job, cuda)
    return process


def pod_of(manifest: Manifest) -> dict[str, Any]:
    """Return the spec of the pods that an object is or makes."""
    spec = manifest.body["spec"]
    pod: dict[str, Any] = spec if manifest.kind == "Pod" else spec["template"]["spec"]
    return pod


def check_confined(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    context = container["securityContext"]
    assert context["allowPrivilegeEscalation"] is False and context["runAsNonRoot"] is True
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert pod["automountServiceAccountToken"] is False
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    needed = {"tmp"} if container.get("args", [])[:1] == ["rendezvous"] else {"cache", "tmp", "shm"}
    assert mounted == {each["name"] for each in pod["volumes"]} >= needed
    assert container["resources"]["requests"] == container["resources"]["limits"]


def check_nodes(job: Manifest, process: Process) -> None:
    spec = job.body["spec"]
    if spec.get("completionMode") != "Indexed":
        assert not any(text.startswith("--nnodes") for text in process.arguments)
        return
    pod = spec["template"]["spec"]
    assert spec["completions"] == spec["parallelism"] > 1
    assert f"--nnodes={spec['completions']}" in process.arguments
    host = f"{job.name}-0.{pod['subdomain']}"
    assert f"--rdzv-endpoint={host}:29500" in process.arguments
    assert process.environment["NCCL_SOCKET_IFNAME"] == "eth0"
    assert f"--rdzv-id=uid-of-{job.name}" in process.arguments
    assert not pod.get("hostNetwork")
    terms = pod["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    keys = {term["topologyKey"] for term in terms}
    assert keys == {"topology.kubernetes.io/zone", "nvidia.com/gpu.product"}
    assert all(term["matchLabelKeys"] == ["batch.kubernetes.io/job-name"] for term in terms)
    assert spec["backoffLimit"] >= 12 * spec["completions"]


def gpus(job: Manifest) -> dict[str, int]:
    """Return what a pod asks of GPUs."""
    (container,) = pod_of(job)["containers"]
    asked = container["resources"]["limits"]
    return {name: int(count) for name, count in asked.items() if name.startswith("nvidia.com/")}


def expressions(pod: dict[str, Any]) -> dict[str, list[str]]:
    """Return the values that node labels must have, or be above."""
    if "affinity" not in pod:
        return {}
    affinity = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (term,) = affinity["nodeSelectorTerms"]
    return {each["key"]: each["values"] for each in term["matchExpressions"]}


def check_card(job: Manifest, cuda: str = "13") -> None:
    """Check that the image's PyTorch has code for every card that a pod may get, and its driver."""
    wheel = WHEELS[cuda]
    asked, chosen = gpus(job), expressions(pod_of(job))
    if not asked:
        assert chosen == {}
        return
    assert chosen["nvidia.com/cuda.driver.major"] == [str(wheel.driver - 1)]
    products = chosen.get("nvidia.com/gpu.product")
    cards = [
        card
        for card in CARDS
        if card.resource in asked and (products is None or card.product in products)
    ]
    assert cards and all(wheel.runs_on(card.capability) for card in cards)
