"""Every rule has a manifest that breaks it, and is named for it."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from rsdl.cluster.load import Manifest
from rsdl.cluster.policy.rules import PROFILES
from tests.unit.cluster.policy.manifests import GOOD, examine, read, set_part

RULES = [rule.id for group in PROFILES["nautilus"] for rule in group.rules]

META = "metadata"
TEMPLATE = "spec.template"
POD = "spec.template.spec"
MAIN = "spec.template.spec.containers[0]"
LIMITS = f"{MAIN}.resources.limits"
REQUESTS = f"{MAIN}.resources.requests"
TERM = (
    f"{POD}.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution"
    ".nodeSelectorTerms[0].matchExpressions"
)
PREFERRED = f"{POD}.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution"
POLICY = "spec.podFailurePolicy.rules"
GONE = None


@dataclass(frozen=True)
class Case:
    """One way to break a rule.

    Attributes:
        rule: The rule.
        base: The good manifests.
        changes: ``(path, value)``, or ``(kind, path, value)`` for another kind than ``kind``;
            ``Job:1`` is the second of a kind.
        where: Where the violation is to be found; by default where the last change was.
        kind: The object that is changed, and that the violation is of.
        says: What the problem and the remedy have to say.
        copies: How many more there are of the object.
        renamed: Whether those have names of their own.
        gpu_use: How busy GPUs were.
    """

    rule: str
    base: str
    changes: tuple[tuple[Any, ...], ...]
    where: str | None = None
    kind: str = "Job"
    says: str = ""
    copies: int = 0
    renamed: bool = True
    gpu_use: Mapping[str, float] | None = None

    @property
    def wanted(self) -> str:
        """Where the violation is to be found."""
        return self.where or self.changes[-1][-2].replace(".[", "[")


def one(rule: str, path: str, value: object, where: str | None = None, says: str = "") -> Case:
    """Return a case of the training Job by one change."""
    return Case(rule, "training", ((path, value),), where, says=says)


def many(rule: str, *changes: tuple[Any, ...], where: str | None = None, says: str = "") -> Case:
    """Return a case of the training Job by several changes."""
    return Case(rule, "training", changes, where, says=says)


def dev(rule: str, *changes: tuple[Any, ...], where: str | None = None) -> Case:
    """Return a case of the bare pod."""
    return Case(rule, "dev", changes, where, "Pod")


def server(rule: str, path: str, value: object, kind: str, where: str | None = None) -> Case:
    """Return a case of what is no Job."""
    return Case(rule, "server", ((path, value),), where, kind)


def data(rule: str, *changes: tuple[Any, ...], where: str | None = None, says: str = "") -> Case:
    """Return a case of the data Job."""
    return Case(rule, "data", changes, where, says=says)


def claim(rule: str, path: str, value: object, says: str = "") -> Case:
    """Return a case of the volume claim."""
    return Case(rule, "data", ((path, value),), kind="PersistentVolumeClaim", says=says)


def elastic(rule: str, *changes: tuple[Any, ...], where: str | None = None, says: str = "") -> Case:
    """Return a case of the core of an elastic run."""
    return Case(rule, "elastic", changes, where, says=says)


def grown(rule: str, *changes: tuple[Any, ...], where: str | None = None, says: str = "") -> Case:
    """Return a case of the growing part of an elastic run."""
    return Case(rule, "elastic", tuple(("Job:1", *change) for change in changes), where, says=says)


SCHEMA = (
    one("schema", "spec.backoffLimits", 3, says='did you mean "backoffLimit"?'),
    one("schema", "spec.backoffLimit", "six", says="is 'six', must be integer"),
    one("schema", "spec.template", GONE, says="is required"),
    one("schema", f"{META}.labels.tier", 3, says="quote it"),
    one("api-version", "apiVersion", "batch/v1beta1", says="write batch/v1"),
    one("api-version", "apiVersion", GONE),
    one("custom-resource", "apiVersion", "kueue.x-k8s.io/v1beta1", "kind"),
)
NAMES = (
    one("object-name", f"{META}.name", "ResNet50_UCM", says='write for example "resnet50-ucm"'),
    one("object-name", f"{META}.name", GONE),
    one("object-name", f"{META}.name", "a" * 254),
    server("object-name", f"{META}.name", "9reports", "Service"),
    server("object-name", f"{META}.name", "a.b", "Namespace"),
    one("job-name", f"{META}.name", "a" * 64),
    server("job-name", f"{META}.name", "a" * 53, "CronJob"),
    Case("job-name", "nodes", ((f"{META}.name", "a.b"),)),
    Case("job-name", "nodes", ((f"{META}.name", "a" * 62),)),
    server("service-selector", "spec.selector.app", "other", "Service", "spec.selector"),
    Case(
        "service-selector",
        "nodes",
        (("spec.selector", {"job-name": "vit-base-aid"}),),
        kind="Service",
        says='is "my-vit-base-aid" meant? Kustomize renames no selector',
    ),
    Case("subdomain", "nodes", ((f"{POD}.subdomain", "other"),)),
    Case("subdomain", "nodes", (("Service", "spec.clusterIP", GONE),), f"{POD}.subdomain"),
    Case("duplicate-object", "server", (), f"{META}.name", "Service", copies=1, renamed=False),
)
CONTAINERS = (
    one("image", f"{MAIN}.image", GONE),
    one("image", f"{MAIN}.image", "rsdl "),
    one("mount-without-volume", f"{MAIN}.volumeMounts[0].name", "cachee", says='mean "cache"'),
    one("duplicate-variable", f"{MAIN}.env[2].name", "RSDL_DATA"),
    one("expansion", f"{MAIN}.env[1].value", "s3://$(RSDL_BUCKETS)/data", says="$(RSDL_BUCKET)?"),
    one("expansion", f"{MAIN}.env[1].value", "$(RSDL_CACHE)/data", says="move RSDL_CACHE up"),
    one("expansion", f"{MAIN}.args[2]", "data.cache.size=$(CACHE)"),
    one("config-map-key", f"{MAIN}.env[0].valueFrom.configMapKeyRef.key", "buckets",
        says='did you mean "bucket"?'),
    one("reference", f"{POD}.serviceAccountName", "other"),
    one("reference", f"{POD}.volumes[1]",
        {"name": "tmp", "persistentVolumeClaim": {"claimName": "other"}},
        f"{POD}.volumes[1].persistentVolumeClaim.claimName"),
    one("reference", f"{MAIN}.env[0].valueFrom.configMapKeyRef.name", "other"),
)  # fmt: skip
RESOURCES = (
    one("quantity", f"{LIMITS}.memory", "19GB"),
    one("quantity", f"{REQUESTS}.cpu", "-1"),
    one("quantity", f"{POD}.volumes[0].emptyDir.sizeLimit", "34 Gi"),
    one("memory-fraction", f"{LIMITS}.memory", "19000m", says="write 19000Mi"),
    one("resource-name", f"{LIMITS}.gpu", 1, says='did you mean "nvidia.com/gpu"?'),
    one("resource-name", f"{LIMITS}.memmory", "1Gi", says='did you mean "memory"?'),
    one("resource-name", f"{LIMITS}.[a b/gpu]", 1),
    one("request-over-limit", f"{REQUESTS}.memory", "20Gi"),
    one("gpu-fraction", f"{LIMITS}.[nvidia.com/gpu]", "0.5"),
    one("gpu-request", f"{LIMITS}.[nvidia.com/gpu]", 2),
    one("gpu-request", f"{LIMITS}.[nvidia.com/gpu]", GONE),
)  # fmt: skip
VALUES = (
    one("medium", f"{POD}.volumes[2].emptyDir.medium", "memory", says="write Memory"),
    one("runs-nothing", "spec.parallelism", 0),
    one("node-affinity", f"{PREFERRED}[0].preference.matchExpressions[0].values", ["12.4"]),
)  # fmt: skip
JOBS = (
    one("restart-policy", f"{POD}.restartPolicy", GONE),
    one("restart-policy", f"{POD}.restartPolicy", "Always"),
    server("restart-policy", f"{POD}.restartPolicy", "Never", "Deployment"),
    data("indexed-completions", ("spec.completions", GONE)),
    data("backoff-per-index", ("spec.completionMode", GONE), where="spec.backoffLimitPerIndex"),
    data("backoff-per-index", (f"{POD}.restartPolicy", "OnFailure"),
         where="spec.backoffLimitPerIndex"),
    data("backoff-per-index", ("spec.backoffLimitPerIndex", GONE), where="spec.maxFailedIndexes"),
    data("success-policy", ("spec.completionMode", GONE), where="spec.successPolicy"),
    data("success-policy", ("spec.successPolicy.rules", [])),
    data("success-policy", ("spec.successPolicy.rules[0]", {})),
    one("failure-policy-restart", f"{POD}.restartPolicy", "OnFailure", "spec.podFailurePolicy"),
    one("failure-policy-rule", f"{POLICY}[0].onPodConditions", GONE, f"{POLICY}[0]"),
    one("failure-policy-rule", POLICY, []),
    one("failure-policy-rule", f"{POLICY}[2].action", "FailIndex"),
    one("failure-policy-rule", POLICY, [{"action": "Ignore"}] * 21),
    one("failure-policy-zero", f"{POLICY}[2].onExitCodes.values", [0, 2],
        f"{POLICY}[2].onExitCodes.values[0]"),
    one("failure-policy-values", f"{POLICY}[2].onExitCodes.values", [3, 2], says="write [2, 3]"),
    one("failure-policy-values", f"{POLICY}[2].onExitCodes.values", []),
    one("failure-policy-container", f"{POLICY}[1].onExitCodes.containerName", "main"),
    one("replacement-policy", "spec.podReplacementPolicy", "TerminatingOrFailed"),
)  # fmt: skip
REQUESTS_LIMITS = (
    one("limits-missing", f"{LIMITS}.memory", GONE),
    one("limits-missing", f"{MAIN}.resources", GONE, f"{LIMITS}.cpu"),
    one("limits-ratio", f"{LIMITS}.memory", "64Gi", says="4.00 times the request 16Gi"),
    one("limits-ratio", f"{LIMITS}.cpu", 5, says="lower it to 4800m"),
    one("limits-ratio", f"{LIMITS}.ephemeral-storage", "49Gi", says="lower it to 48Gi"),
    data("limits-equal", ("spec.parallelism", 101), ("spec.completions", 101),
         where=f"{LIMITS}.cpu", says="101 pods run at once"),
)  # fmt: skip
IDLE_PODS = (
    one("job-sleep", f"{MAIN}.command", ["sleep", "3600"]),
    one("job-sleep", f"{MAIN}.args", ["bash", "-c", "rsdl train x.yaml; sleep infinity"]),
    data("job-sleep", (f"{MAIN}.args[0]", "rsdl doctor\nwhile true; do date; sleep 60; done\n"),
         where=f"{MAIN}.command"),
    dev("bare-pod-gpus", ("spec.containers[0].resources.limits.[nvidia.com/a40]", 3)),
    dev("bare-pod-size", ("spec.containers[0].resources.limits.memory", "33Gi")),
    dev("bare-pod-size", ("spec.containers[0].resources.limits.cpu", "16.5")),
    dev("bare-pod-life", ("spec.activeDeadlineSeconds", 21601)),
    dev("bare-pod-deadline", ("spec.activeDeadlineSeconds", GONE)),
    server("deployment-gpu", f"{LIMITS}.[nvidia.com/gpu]", 1, "Deployment"),
    server("deployment-life", "spec.replicas", 1, "Deployment", "kind"),
)  # fmt: skip
GPUS = (
    one("gpu-resource", f"{LIMITS}.[nvidia.com/a6000]", 1, says="nvidia.com/rtxa6000"),
    one("gpu-resource", f"{LIMITS}.[nvidia.com/rtx3090]", 1, says="NVIDIA-GeForce-RTX-3090"),
    one("gpu-own-resource", f"{TERM}[0].values[0]", "NVIDIA-A40", says="write nvidia.com/a40"),
    dev("gpu-own-resource", ("spec.nodeSelector.[nvidia.com/gpu.product]", "NVIDIA-L40")),
    one("gpu-product", f"{TERM}[0].values[0]", "RTX-3090", says="NVIDIA-GeForce-RTX-3090"),
    Case("gpu-quota", "nodes", ((f"{POD}.priorityClassName", GONE),),
          f"{LIMITS}[nvidia.com/a100]"),
    one("gpu-quota", f"{TERM}[0].values", ["NVIDIA-H100-80GB-HBM3"], f"{TERM}[0].values[0]"),
    many("gpus-of-node", (f"{LIMITS}.[nvidia.com/gpu]", 9)),
    many("gpus-at-once", ("spec.completions", 51), ("spec.parallelism", 51),
         where=f"{LIMITS}[nvidia.com/gpu]"),
    Case("gpus-at-once", "nodes", (), f"{LIMITS}[nvidia.com/a100]", copies=6,
          says="holds 56 GPUs at once"),
)  # fmt: skip
SCHEDULING = (
    one("priority-class", f"{POD}.priorityClassName", "opportunistic3", says='"opportunistic"'),
    one("closed-taint", f"{POD}.tolerations[0].key", "nautilus.io/issue"),
    one("closed-taint", f"{POD}.tolerations[0]", {"operator": "Exists"}),
    one("entitled-taint", f"{POD}.tolerations[0].key", "nautilus.io/reservation"),
    one("entitled-taint", f"{POD}.tolerations[0].key", "example.org/ours"),
    Case("job-count", "data", (), "kind", copies=400, says="401 Jobs"),
    one("backoff-zero", "spec.backoffLimit", 0),
)
STORAGE = (
    claim("storage-class", "spec.storageClassName", "rook-cephf", says='mean "rook-cephfs"?'),
    Case("access-mode", "data", (("spec.storageClassName", "rook-ceph-block-east"),),
          "spec.accessModes[0]", "PersistentVolumeClaim"),
    Case("access-mode", "data", (("spec.storageClassName", GONE),), "spec.accessModes[0]",
          "PersistentVolumeClaim"),
    data("volume-region", ("PersistentVolumeClaim", "spec.storageClassName", "rook-cephfs"),
         where=f"{POD}.volumes[0].persistentVolumeClaim.claimName",
         says="lies in West (rook-cephfs), the pod runs in East"),
    one("endpoint-region", f"{TERM}[1].values", ["us-east"], f"{MAIN}.env[3].valueFrom",
        says="in West, the pod runs in East"),
    many("endpoint-region",
         ("ConfigMap", "data.endpoint", "http://rook-ceph-rgw-easts3.rook-east"),
         where=f"{MAIN}.env[3].valueFrom"),
    one("region-open", f"{TERM}[1]", GONE, f"{POD}.affinity"),
    many("endpoint-outside", ("ConfigMap", "data.endpoint", "https://s3-west.nrp-nautilus.io"),
         where=f"{MAIN}.env[3].valueFrom", says="write http://rook-ceph-rgw-nautiluss3.rook"),
    data("endpoint", (f"{MAIN}.env[1].value", "http://rook-ceph-rgw-easts3.rook"),
         says="did you mean rook-ceph-rgw-easts3.rook-east?"),
    data("endpoint", (f"{MAIN}.env[1].value", "https://rook-ceph-rgw-easts3.rook-east"),
         says="https is not spoken"),
)  # fmt: skip
VOLUMES = (
    one("shm", f"{MAIN}.volumeMounts[2]", GONE, f"{MAIN}.volumeMounts"),
    one("shm", f"{POD}.volumes[2].emptyDir.medium", GONE, f"{MAIN}.volumeMounts"),
    data(
        "shm",
        (f"{MAIN}.args", ["rsdl train configs/x.yaml --nproc-per-node 4"]),
        where=f"{MAIN}.volumeMounts",
    ),
    one("shm-memory", f"{POD}.volumes[2].emptyDir.sizeLimit", "19Gi"),
    one("empty-dir-size", f"{POD}.volumes[0].emptyDir.sizeLimit", GONE),
    one("disk-limit", f"{LIMITS}.ephemeral-storage", GONE),
    one("disk-sum", f"{POD}.volumes[0].emptyDir.sizeLimit", "50Gi", f"{LIMITS}.ephemeral-storage"),
)
STUDY = (
    one("config-missing", f"{MAIN}.args[1]", "configs/resnet50_ucn.yaml", f"{MAIN}.args",
        says="did you mean resnet50_ucm.yaml?"),
    one("config-invalid", f"{MAIN}.args[3]", "optim.lrr=1", f"{MAIN}.args",
        says='optim.lrr unknown field; did you mean "lr"?'),
    one("config-invalid", f"{MAIN}.args[3]", "seed=${oc.env:RSDL_BUCKET}", f"{MAIN}.args",
        says="is 'imagery'"),
    one("config-unchecked", f"{MAIN}.args[1]", "/etc/rsdl/mine.yaml", f"{MAIN}.args"),
    one("config-annotation", f"{META}.annotations.[rsdl/config]", "resnet50_aid"),
    one("config-annotation", f"{META}.annotations.[rsdl/config]", GONE),
    one("config-annotation", f"{MAIN}.args[0]", "evaluate",
        f"{META}.annotations[rsdl/config]"),
    Case("run-twice", "training", (), f"{MAIN}.args", copies=1, says="Job/resnet50-ucm writes"),
    one("run-name", f"{MAIN}.args[3]", "name=other", f"{META}.annotations[rsdl/config]"),
    one("job-of-config", f"{META}.name", "resnet"),
    one("study-labels", f"{META}.labels.[rsdl/study]", GONE, f"{META}.labels"),
    one("study-labels", f"{TEMPLATE}.{META}.labels.[app.kubernetes.io/part-of]", GONE,
        f"{TEMPLATE}.{META}.labels"),
    one("study-labels", f"{META}.labels.[rsdl/architecture]", "vit_base"),
)  # fmt: skip
CONTRACT = (
    one("exit-codes", "spec.podFailurePolicy", GONE),
    one("exit-codes", f"{POLICY}[0]", GONE, "spec.podFailurePolicy", says="disrupted"),
    one("exit-codes", f"{POLICY}[1]", GONE, "spec.podFailurePolicy", says="exit 75"),
    one("exit-codes", f"{POLICY}[2]", GONE, "spec.podFailurePolicy", says="exit 2"),
    # The first rule that fits decides.
    one("exit-codes", f"{POLICY}[0]",
        {"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [0]}},
        "spec.podFailurePolicy", says="does FailJob on exit 75"),
    one("grace-period", f"{POD}.terminationGracePeriodSeconds", GONE),
    one("grace-period", f"{POD}.terminationGracePeriodSeconds", 45),
    one("gpu-devices", f"{MAIN}.args[3]", "trainer.devices=2", f"{LIMITS}[nvidia.com/gpu]"),
    one("gpu-devices", f"{MAIN}.args[3]", "trainer.accelerator=cpu", f"{LIMITS}[nvidia.com/gpu]"),
    Case("gpu-devices", "nodes", ((f"{MAIN}.args[4]", "8"),), f"{LIMITS}[nvidia.com/a100]"),
    one("cache-size", f"{MAIN}.args[2]", "seed=1", f"{POD}.volumes[0].emptyDir.sizeLimit",
        says="data.cache.size=32GB"),
    Case("gpu-use", "training", (), f"{LIMITS}[nvidia.com/gpu]", gpu_use={"resnet50_ucm": 0.31},
          says="31% busy"),
)  # fmt: skip
ENV = f"{MAIN}.env"
NODES = (
    Case("pod-nodes", "nodes", ((f"{MAIN}.env[0].value", "3"),), "spec.parallelism"),
    elastic("pod-nodes", ("spec.completions", 1), ("spec.parallelism", 1), where="spec.parallelism",
            says="4 pods run at once, trainer.num_nodes is 2:5; write 5 for the Jobs of the run"),
    elastic("elastic-core", ("spec.completions", 1), ("spec.parallelism", 1),
            where="spec.parallelism", says="the core has 1 pod, the run trains with 2 or more"),
    elastic("elastic-core", (f"{ENV}[0].value", "3:5"), where="spec.parallelism"),
    # Without roles, the core is what keeps its GPUs.
    elastic("elastic-core", (f"{POD}.priorityClassName", "opportunistic"),
            (f"{META}.labels.[rsdl/role]", GONE), (f"{TEMPLATE}.{META}.labels.[rsdl/role]", GONE),
            where="spec.parallelism", says="the core has 0 pods"),
    grown("elastic-growth", (f"{POD}.priorityClassName", GONE),
          says="5 pods keep their GPUs, the run trains with 2 or more; write opportunistic"),
    elastic("rendezvous-endpoint", (f"{MAIN}.args[4]", "my-vit-base-aid-rendezvous:29500"),
            where=f"{MAIN}.args", says="is no Service of this set"),
    elastic("rendezvous-endpoint", (f"{MAIN}.args[4]", "my-vit-base-aid-rendezvous-1.rsdl:29500"),
            where=f"{MAIN}.args"),
    elastic("rendezvous-endpoint", (f"{MAIN}.args[4]", "my-vit-base-aid-rendezvous-0.other:29500"),
            where=f"{MAIN}.args"),
    Case("rendezvous-endpoint", "nodes",
         ((f"{MAIN}.args[6]", "--rdzv-endpoint=$(RSDL_JOB)-2.rsdl"),), f"{MAIN}.args"),
    elastic("rendezvous-id", (f"{MAIN}.args[5]", "--rdzv-id=another"), where=f"{MAIN}.args",
            says="is another, Job/my-vit-base-aid-growing says my-vit-base-aid: they never meet"),
    elastic("rendezvous-id", (f"{ENV}[1].valueFrom.fieldRef.fieldPath",
            "metadata.labels['batch.kubernetes.io/controller-uid']"), where=f"{MAIN}.args"),
    grown("rendezvous-id", (f"{ENV}[1].valueFrom.fieldRef.fieldPath",
          "metadata.labels['batch.kubernetes.io/job-name']"), where=f"{MAIN}.args"),
    elastic("run-twice", (f"{MAIN}.args[4]", "other-0.rsdl:29500"), where=f"{MAIN}.args"),
    grown("rendezvous-id", (f"{MAIN}.args[5]", GONE), where=f"{MAIN}.args", says="is none"),
    Case("rendezvous-id", "elastic", (("Job:2", f"{MAIN}.args[4]", "another"),), f"{MAIN}.args",
         says="Job/my-vit-base-aid-rendezvous says another"),
)  # fmt: skip

CASES = (
    *SCHEMA, *NAMES, *CONTAINERS, *RESOURCES, *VALUES, *JOBS, *REQUESTS_LIMITS, *IDLE_PODS, *GPUS,
    *SCHEDULING, *STORAGE, *VOLUMES, *STUDY, *CONTRACT, *NODES,
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}:{case.wanted}")
def test_what_breaks_a_rule_is_named(case: Case):
    manifests = read(case.base)
    for change in case.changes:
        kind, path, value = change if len(change) == 3 else (case.kind, *change)
        manifests = set_part(manifests, kind, path, value)
    broken = next(m for m in manifests if m.kind == case.kind)
    for number in range(case.copies):
        body = copy.deepcopy(dict(broken.body))
        body["metadata"]["name"] += f"-{number}" * case.renamed
        manifests.append(Manifest(broken.source, body))
    found = [v for v in examine(manifests, gpu_use=case.gpu_use) if v.rule == case.rule]
    assert case.wanted in {violation.field for violation in found}
    named = [violation for violation in found if violation.field == case.wanted]
    assert {violation.object.partition("/")[0] for violation in named} == {case.kind}
    assert case.says in " | ".join(f"{v.problem}; {v.remedy}" for v in named)
    assert all(v.remedy and "\n" not in v.problem + v.remedy for v in named)


def test_every_rule_is_broken_by_something():
    assert {case.rule for case in CASES} == set(RULES)
    assert len(RULES) == len(set(RULES))


@pytest.mark.parametrize("profile", PROFILES)
def test_good_manifests_give_no_alarm(profile: str):
    for path in GOOD.glob("*.yaml"):
        found = examine(read(path.stem), profile)
        assert [v for v in found if v.rule != "deployment-life"] == []
