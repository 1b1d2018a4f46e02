"""Check manifests against a profile."""

from rsdl.cluster.policy.objects import ManifestSet
from rsdl.cluster.policy.rules import PROFILES
from rsdl.cluster.policy.violation import Violation, locate

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
        pod = owner.pod
        for group in PROFILES[profile]:
            broken = [(rule.id, rule.severity, rule.check(owner)) for rule in group.objects]
            if pod is not None:
                broken += [(rule.id, rule.severity, rule.check(pod)) for rule in group.pods]
            for rule, severity, findings in broken:
                found += [locate(owner.manifest, rule, severity, each) for each in findings]
    return found
