"""What must hold for every Job of ours, whatever it is composed of."""

import re
from typing import Any

import kubernetes_validate

from rsdl.cluster.load import Manifest
from rsdl.cluster.nautilus import CARDS, REGIONS
from rsdl.cluster.wheels import WHEELS
from tests.k8s.kubelet import Cluster, Process, start

UNITS = {"Gi": 1 << 30, "GB": 10**9, "": 1}
VERSION = "1.32"


def size(quantity: str) -> float:
    found = re.fullmatch(r"(\d+)(Gi|GB|)", quantity)
    assert found, quantity
    return int(found[1]) * UNITS[found[2]]


def check_schema(manifest: Manifest) -> None:
    kubernetes_validate.validate(dict(manifest.body), VERSION, strict=True)


def check_job(job: Manifest, cluster: Cluster, cuda: str = "13") -> Process:
    """Check a Job that trains; return how its first pod starts."""
    check_schema(job)
    spec = job.body["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    check_confined(pod, container)
    check_resources(pod, container)
    check_place(pod, container)
    assert pod["restartPolicy"] == "Never" and spec["backoffLimit"] > 0
    assert spec["activeDeadlineSeconds"] > 0 and spec["ttlSecondsAfterFinished"] == 604800
    assert pod["terminationGracePeriodSeconds"] >= 60
    rules = spec["podFailurePolicy"]["rules"]
    conditions = [rule["onPodConditions"][0]["type"] for rule in rules if "onPodConditions" in rule]
    codes = {
        code: rule["action"]
        for rule in rules
        for code in rule.get("onExitCodes", {}).get("values", ())
    }
    assert conditions == ["DisruptionTarget"] and codes == {
        69: "Ignore",
        75: "Ignore",
        2: "FailJob",
    }
    assert rules[0]["action"] == "Ignore" and "onPodConditions" in rules[0]
    process = start(job, cluster, 0 if spec.get("completionMode") == "Indexed" else None)
    check_process(process)
    check_nodes(job, process)
    check_card(job, cuda)
    assert size(process.environment["RSDL_CACHE_SIZE"]) < size(volume(pod, "cache")["sizeLimit"])
    return process


def check_confined(pod: dict[str, Any], container: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    context = container["securityContext"]
    assert context["allowPrivilegeEscalation"] is False and context["runAsNonRoot"] is True
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert pod["automountServiceAccountToken"] is False
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {each["name"] for each in pod["volumes"]} >= {"cache", "tmp", "shm"}


def check_resources(pod: dict[str, Any], container: dict[str, Any]) -> None:
    requests, limits = container["resources"]["requests"], container["resources"]["limits"]
    assert requests == limits
    assert None not in requests.values()
    assert {"cpu", "memory", "ephemeral-storage"} <= set(requests)
    assert volume(pod, "shm")["medium"] == "Memory"
    assert size(volume(pod, "shm")["sizeLimit"]) <= size(requests["memory"]) / 2
    on_disk = [each["emptyDir"] for each in pod["volumes"] if "emptyDir" in each]
    written = sum(size(each["sizeLimit"]) for each in on_disk if each.get("medium") != "Memory")
    assert written < size(requests["ephemeral-storage"])


def check_place(pod: dict[str, Any], container: dict[str, Any]) -> None:
    region = pod["nodeSelector"]["topology.kubernetes.io/region"]
    (known,) = [each for each in REGIONS.values() if each.label == region]
    env = {each["name"]: each.get("value") for each in container["env"]}
    assert env["AWS_ENDPOINT_URL_S3"] == known.inside


def check_process(process: Process) -> None:
    for text in (*process.arguments, *process.environment.values()):
        assert "$(" not in text, text
    assert process.arguments[:2] == ["train", "/config/config.yaml"]
    assert process.arguments[1] in process.files


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
    (container,) = job.body["spec"]["template"]["spec"]["containers"]
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
    asked, chosen = gpus(job), expressions(job.body["spec"]["template"]["spec"])
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


def volume(pod: dict[str, Any], name: str) -> dict[str, str]:
    (found,) = [each for each in pod["volumes"] if each["name"] == name]
    content: dict[str, str] = found["emptyDir"]
    return content
