"""Differences between a cluster's Job and its manifest: Jobs cannot be changed in place."""

from collections.abc import Iterator, Mapping
from typing import Any

from rsdl.cluster.jobs import applied_manifest
from rsdl.cluster.policy.quantity import parse_quantity


def find_differences(manifest: Mapping[str, Any], job: Mapping[str, Any]) -> list[str]:
    """Return the paths of the fields in which a Job's spec differs from its manifest.

    A Job created by kubectl keeps its manifest in an annotation, and is compared with that in both
    directions. Any other Job is compared with its spec as the API server stores it, which includes
    defaults: a field removed from the manifest is then not noticed.

    Args:
        manifest: The current manifest.
        job: The Job from the API server.
    """
    asked = manifest.get("spec", {})
    applied = applied_manifest(job)
    if applied is None:
        return list(_differences(asked, job.get("spec", {}), "spec", both=False))
    return list(_differences(asked, applied.get("spec", {}), "spec", both=True))


def _differences(asked: object, held: object, path: str, *, both: bool) -> Iterator[str]:
    if isinstance(asked, Mapping) and isinstance(held, Mapping):
        names = dict.fromkeys([*asked, *(held if both else ())])
        for name in names:
            yield from _differences(asked.get(name), held.get(name), f"{path}.{name}", both=both)
    elif isinstance(asked, list) and isinstance(held, list) and len(asked) == len(held):
        for at, (one, other) in enumerate(zip(asked, held, strict=True)):
            yield from _differences(one, other, f"{path}[{at}]", both=both)
    elif not _is_same(asked, held):
        yield path


def _is_same(asked: object, held: object) -> bool:
    if asked == held or (_is_nothing(asked) and _is_nothing(held)):
        return True
    first, second = parse_quantity(asked), parse_quantity(held)
    return first is not None and first == second


def _is_nothing(value: object) -> bool:
    return value is None or value in ({}, [], "")
