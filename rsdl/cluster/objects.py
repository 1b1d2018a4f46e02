"""Accessors for Kubernetes objects in the API server's JSON; missing parts read as empty."""

from collections.abc import Mapping
from typing import Any

Object = Mapping[str, Any]


def name_of(body: Object) -> str:
    """Return an object's name."""
    return str(metadata_of(body).get("name") or "")


def labels_of(body: Object) -> Mapping[str, str]:
    """Return an object's labels."""
    return part(metadata_of(body), "labels")


def annotations_of(body: Object) -> Mapping[str, str]:
    """Return an object's annotations."""
    return part(metadata_of(body), "annotations")


def conditions_of(body: Object) -> dict[str, Object]:
    """Return an object's conditions by type."""
    found = part(body, "status").get("conditions") or ()
    return {str(condition.get("type")): condition for condition in found}


def holds(conditions: Mapping[str, Object], kind: str) -> bool:
    """Return whether a condition is present and true."""
    return conditions.get(kind, {}).get("status") == "True"


def metadata_of(body: Object) -> Object:
    """Return an object's metadata."""
    return part(body, "metadata")


def part(body: Object, name: str) -> Object:
    """Return a mapping within an object; empty if missing."""
    found = body.get(name)
    return found if isinstance(found, Mapping) else {}
