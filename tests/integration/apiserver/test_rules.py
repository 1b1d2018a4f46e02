"""What ``rsdl k8s check`` says nothing of, since the API server refuses it and names the field."""

import copy

import pytest

from rsdl.cluster.kubectl import Kubectl
from rsdl.cluster.load import Manifest, load_manifests
from rsdl.cluster.server import REFUSED, check_on_server
from tests.integration.apiserver.plane import Space
from tests.unit.cluster.policy.conftest import GOOD, set_part
from tests.unit.cluster.policy.test_rules import (
    GONE,
    MAIN,
    META,
    POD,
    PREFERRED,
    TEMPLATE,
    TERM,
    Break,
    claim,
    one,
    server,
)

pytestmark = pytest.mark.apiserver

# Each is called by what it would be a rule of, if we had one.
REFUSALS = (
    one("namespace-name", f"{META}.namespace", "My_Space"),
    one("label-syntax", f"{META}.labels.[rsdl/study]", "nine by three"),
    one("label-syntax", f"{TEMPLATE}.{META}.labels.[rsdl/study]", "-x"),
    one("label-syntax", f"{META}.labels.[a/b/c]", "x"),
    one("label-syntax", f"{META}.labels.long", "x" * 64),
    one("label-syntax", f"{POD}.nodeSelector.[/name]", "x"),
    server("label-syntax", "spec.selector.app", "re ports", "Service"),
    server("label-syntax", "spec.selector.matchLabels.app", "re ports", "Deployment"),
    one("annotation-syntax", f"{META}.annotations.[bad key]", "x"),
    one("annotation-syntax", f"{META}.annotations.long", "x" * 262145, f"{META}.annotations"),
    server("selector", "spec.selector.matchLabels.app", "other", "Deployment"),
    server("selector", "spec.selector.matchLabels", {}, "Deployment", "spec.selector"),
    one("selector", "spec.selector", {"matchLabels": {"a": "b"}}),
    one("container-name", f"{MAIN}.name", "Main"),
    one("container-name", f"{POD}.containers", []),
    one("duplicate-container", f"{POD}.initContainers[0]", {"name": "rsdl", "image": "x"},
        f"{POD}.initContainers[0].name"),
    one("volume", f"{POD}.volumes[0].name", "Cache"),
    one("volume", f"{POD}.volumes[0].hostPath", {"path": "/x"}, f"{POD}.volumes[0]"),
    one("duplicate-volume", f"{POD}.volumes[1].name", "cache"),
    one("duplicate-mount-path", f"{MAIN}.volumeMounts[1].mountPath", "/cache"),
    one("variable", f"{MAIN}.env[1].name", "A=B"),
    one("variable", f"{MAIN}.env[0].value", "x", f"{MAIN}.env[0].valueFrom"),
    one("variable", f"{MAIN}.env[0].valueFrom", {}),
    claim("volume-claim", "spec.resources.requests.storage", GONE),
    claim("volume-claim", "spec.resources.requests.storage", 0),
    claim("volume-claim", "spec.accessModes", []),
    claim("volume-claim", "spec.accessModes[0]", "ReadWriteAll"),
    one("volume-claim", f"{POD}.volumes[0]",
        {"name": "cache", "ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": ["RWX"]}}}},
        f"{POD}.volumes[0].ephemeral.volumeClaimTemplate.spec.accessModes[0]"),
    claim("volume-claim", "spec.accessModes[1]", "ReadWriteOncePod"),
    one("number", "spec.backoffLimit", -1),
    one("number", "spec.ttlSecondsAfterFinished", 2**31),
    one("number", f"{POD}.activeDeadlineSeconds", 0),
    server("number", "spec.replicas", -1, "Deployment"),
    one("toleration", f"{POD}.tolerations[0].value", "x"),
    one("toleration", f"{POD}.tolerations[0].effect", GONE,
        f"{POD}.tolerations[0].tolerationSeconds"),
    one("toleration", f"{POD}.tolerations[1]", {"operator": "Equal", "value": "x"},
        f"{POD}.tolerations[1].key"),
    one("word", f"{MAIN}.imagePullPolicy", "always"),
    one("word", f"{TERM}[0].operator", "in"),
    server("word", "spec.type", "Cluster", "Service"),
    one("node-affinity", f"{TERM}[0].values", []),
    one("node-affinity", f"{TERM}[0].operator", "Exists", f"{TERM}[0].values"),
    one("node-affinity", f"{PREFERRED}[0].weight", 101),
)  # fmt: skip
# Rules of ours whose breaks an API server takes in silence: these are to stay.
SILENT = (
    one("image", f"{MAIN}.image", "rsdl "),
    one("medium", f"{POD}.volumes[2].emptyDir.medium", "memory"),
    one("node-affinity", f"{PREFERRED}[0].preference.matchExpressions[0].values", ["12.4"]),
    one("runs-nothing", "spec.parallelism", 0),
    one("duplicate-variable", f"{MAIN}.env[2].name", "RSDL_DATA"),
    one("expansion", f"{MAIN}.args[2]", "data.cache.size=$(CACHE)"),
    one("config-map-key", f"{MAIN}.env[0].valueFrom.configMapKeyRef.key", "buckets"),
    server("service-selector", "spec.selector.app", "other", "Service"),
)


def ask(case: Break, space: Space) -> list[str]:
    """Return the fields that the API server refuses an object for."""
    manifests = load_manifests(str(GOOD / f"{case.base}.yaml"))
    manifests = [Manifest(each.source, copy.deepcopy(dict(each.body))) for each in manifests]
    for path, value in case.changes:
        manifests = set_part(manifests, case.kind, path, value)
    (broken, *_) = [each for each in manifests if each.kind == case.kind]
    if not case.wanted.endswith("namespace"):
        broken.body["metadata"].pop("namespace", None)
    found = check_on_server([broken], Kubectl())
    return [violation.field for violation in found if violation.rule == REFUSED]


def test_what_has_no_rule_is_refused(space: Space):
    taken = [f"{case.rule}: {case.wanted}" for case in REFUSALS if not ask(case, space)]
    assert taken == []


def test_what_is_taken_in_silence_has_a_rule(space: Space):
    refused = [f"{case.rule}: {case.wanted}" for case in SILENT if ask(case, space)]
    assert refused == []
