"""Check manifests against a profile."""

from collections.abc import Iterator

from rsdl.cluster.policy.objects import ManifestSet, Object
from rsdl.cluster.policy.rules import PROFILES
from rsdl.cluster.policy.violation import Finding, Severity, Violation

KUSTOMIZE = "kustomize.config.k8s.io/"  # input of Kustomize, not objects of a cluster


def check(manifest_set: ManifestSet, profile: str) -> list[Violation]:
    """Return the violations of a profile's rules, object by object.

    Args:
        manifest_set: The objects that are applied together.
        profile: A key of ``PROFILES``.
    """
    found = []
    for owner in manifest_set.objects:
        if owner.root["apiVersion"].text.startswith(KUSTOMIZE):
            continue
        where = owner.manifest.source, owner.manifest.title
        for rule, severity, finding in _look_at(owner, profile):
            found.append(
                Violation(*where, finding.field, rule, severity, finding.problem, finding.remedy)
            )
    return found


def _look_at(owner: Object, profile: str) -> Iterator[tuple[str, Severity, Finding]]:
    pod = owner.pod
    for group in PROFILES[profile]:
        for rule in group.objects:
            yield from ((rule.id, rule.severity, finding) for finding in rule.check(owner))
        for pod_rule in group.pods if pod is not None else ():
            assert pod is not None
            yield from ((pod_rule.id, pod_rule.severity, found) for found in pod_rule.check(pod))
