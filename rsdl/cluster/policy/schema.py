"""The published schema of Kubernetes, from the kubernetes-validate package: nothing is downloaded.

Fields that the schema does not know are errors, as in ``kubectl apply`` with strict validation.
Custom resources have no schema there; they are only listed.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from rsdl.cluster.policy.field import Field
from rsdl.cluster.policy.objects import Object
from rsdl.cluster.policy.syntax import nearest
from rsdl.cluster.policy.violation import Finding, Rule
from rsdl.core.errors import ConfigError

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator, ValidationError
    from referencing import Registry

VERSION = "1.32.0"
FOLDER = f"kubernetes-json-schema/v{VERSION}-local-strict"
BUILT_IN_GROUP = re.compile(r"(?:[a-z]+/)?v\d+(?:(?:alpha|beta)\d+)?|[a-z.]+\.k8s\.io/v\w+")
API_VERSIONS = {
    "Job": "batch/v1",
    "CronJob": "batch/v1",
    "Deployment": "apps/v1",
    "ReplicaSet": "apps/v1",
    "StatefulSet": "apps/v1",
    "DaemonSet": "apps/v1",
    **dict.fromkeys(
        ("Pod", "Service", "ConfigMap", "Secret", "ServiceAccount", "Namespace",
         "PersistentVolumeClaim", "PersistentVolume", "LimitRange", "ResourceQuota"),
        "v1",
    ),
    "NetworkPolicy": "networking.k8s.io/v1",
    "Ingress": "networking.k8s.io/v1",
    "Role": "rbac.authorization.k8s.io/v1",
    "RoleBinding": "rbac.authorization.k8s.io/v1",
    "PodDisruptionBudget": "policy/v1",
}  # fmt: skip


def check_schema(owner: Object) -> Iterator[Finding]:
    """Yield every part that does not match the schema of its kind."""
    validator = find_validator(owner.root["apiVersion"].text, owner.kind)
    if validator is None:
        return
    for error in validator.iter_errors(dict(owner.manifest.body)):
        where = owner.root
        for part in error.absolute_path:
            where = _step(where, part)
        for finding in _explain(where, error):
            if owner.kind == "Secret" and not finding.field.startswith("metadata"):
                finding = replace(finding, problem=f"does not fit the schema ({error.validator})")
            yield finding


def check_kind(owner: Object) -> Iterator[Finding]:
    """Yield objects without a kind, and built-in kinds that do not exist in their version."""
    version = owner.root["apiVersion"]
    for field in (version, owner.root["kind"]):
        if not field.text:
            yield field.violation(
                "is required", "write for example apiVersion: batch/v1, kind: Job"
            )
    if not version.text or not owner.kind:
        return
    right = API_VERSIONS.get(owner.kind)
    if right and BUILT_IN_GROUP.fullmatch(version.text) and version.text != right:
        yield version.violation(f"is {version.text}, which has no {owner.kind}", f"write {right}")


def check_custom(owner: Object) -> Iterator[Finding]:
    """Yield objects without a schema to check against."""
    version = owner.root["apiVersion"].text
    if not version or not owner.kind or find_validator(version, owner.kind) is not None:
        return
    if not (owner.kind in API_VERSIONS and BUILT_IN_GROUP.fullmatch(version)):
        problem = (
            f"{version} {owner.kind} has no schema here: only what all kinds share was checked"
        )
        yield owner.root["kind"].violation(problem, "nothing to do for a custom resource")


@lru_cache(maxsize=64)
def find_validator(api_version: str, kind: str) -> "Draft202012Validator | None":
    """Return the validator of a kind, or ``None`` where Kubernetes 1.32 has no such kind.

    Raises:
        ConfigError: If the extra that holds the schemas is not installed.
    """
    if not re.fullmatch(r"[A-Za-z0-9]+", kind) or not re.fullmatch(r"[\w.-]+(/\w+)?", api_version):
        return None
    try:
        from jsonschema import Draft202012Validator
        from kubernetes_validate import utils
    except ImportError as error:
        raise ConfigError(
            "kubernetes-validate",
            "is not installed, so no schema can be checked",
            "pip install 'rsdl-train[k8s]'",
        ) from error
    # The package calls rbac.authorization.k8s.io/v1 rbac-v1.
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    try:
        schema = utils.schema_contents(f"{FOLDER}/{kind.lower()}-{group}.json", VERSION)
    except FileNotFoundError:
        return None
    return Draft202012Validator(schema, registry=_registry())


@lru_cache(maxsize=1)
def _registry() -> "Registry[Any]":
    from kubernetes_validate import utils
    from referencing import Registry, Resource

    definitions = utils.schema_contents(f"{FOLDER}/_definitions.json", VERSION)
    return Resource.from_contents(definitions) @ Registry()


def _step(where: Field, part: str | int) -> Field:
    return list(where)[part] if isinstance(part, int) else where[str(part)]


def _explain(where: Field, error: "ValidationError") -> Iterator[Finding]:
    value = error.instance
    shown = "null" if value is None else repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    if error.validator == "additionalProperties" and isinstance(value, dict):
        known = error.schema.get("properties", {})
        for key in (key for key in value if key not in known):
            near = nearest(str(key), known)
            remedy = f'did you mean "{near}"?' if near else "leave it out"
            yield where[str(key)].violation("unknown field", remedy)
    elif error.validator == "required":
        for key in (key for key in error.validator_value if key not in value):
            yield where[key].violation("is required", "set it")
    elif error.validator in ("type", "oneOf", "anyOf"):
        rules = [error.schema, *error.schema.get(error.validator, [])]
        named = [rule.get("type", []) for rule in rules if isinstance(rule, dict)]
        kinds = [k for kind in named for k in ([kind] if isinstance(kind, str) else kind)]
        wanted = " or ".join(dict.fromkeys(kind for kind in kinds if kind != "null"))
        remedy = (
            "quote it" if wanted == "string" and not isinstance(value, dict | list) else "mend it"
        )
        yield where.violation(f"is {shown}, must be {wanted}", remedy)
    elif error.validator == "enum":
        choices = ", ".join(str(choice) for choice in error.validator_value)
        yield where.violation(f"is {shown}, must be one of {choices}", "choose one")
    else:
        yield where.violation(error.message, "mend it")


OBJECTS: tuple[Rule[Object], ...] = (
    Rule("schema", "every field fits the schema of Kubernetes 1.32", "error", check_schema),
    Rule("api-version", "the kind exists at its apiVersion", "error", check_kind),
    Rule("custom-resource", "kinds without a schema are only named", "note", check_custom),
)
