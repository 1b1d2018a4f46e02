"""Whatever shape a manifest has, rules say what they see and none of them falls over."""

import sys
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from kubernetes_validate import ValidationError, validate

from rsdl.cluster.load import Manifest
from rsdl.cluster.policy import schema
from rsdl.cluster.policy.check import check
from rsdl.cluster.policy.objects import ManifestSet, Object
from rsdl.core.errors import ConfigError
from tests.unit.cluster.policy.manifests import GOOD, examine, read, set_part

DOCUMENTS = [
    document
    for path in sorted(GOOD.glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


def places(tree: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the path of every part of a tree."""
    items: list[tuple[Any, object]] = []
    if isinstance(tree, dict):
        items = list(tree.items())
    elif isinstance(tree, list):
        items = list(enumerate(tree))
    return [path, *(found for key, value in items for found in places(value, (*path, key)))]


def replaced(tree: object, path: tuple[str | int, ...], value: object) -> Any:  # noqa: ANN401
    """Return a tree with one part replaced."""
    if not path:
        return value
    first, rest = path[0], path[1:]
    if isinstance(tree, dict):
        return {**tree, first: replaced(tree[first], rest, value)}
    assert isinstance(tree, list) and isinstance(first, int)
    return [*tree[:first], replaced(tree[first], rest, value), *tree[first + 1 :]]


@settings(max_examples=300)
@given(st.data())
def test_no_shape_makes_a_rule_fall_over(data: st.DataObject):
    document = data.draw(st.sampled_from(DOCUMENTS))
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from(places(document)[1:]))
        document = replaced(document, path, data.draw(ANYTHING))
    manifest = Manifest("x.yaml", document)
    for violation in check(ManifestSet([manifest]), "nautilus"):
        assert violation.field and violation.problem and violation.remedy


@settings(max_examples=150)
@given(st.data())
def test_the_schema_is_that_of_kubernetes_validate(data: st.DataObject):
    document = data.draw(st.sampled_from(DOCUMENTS))
    path = data.draw(st.sampled_from([p for p in places(document) if len(p) > 1]))
    document = replaced(document, path, data.draw(ANYTHING))
    try:
        validate(document, schema.VERSION, strict=True)
        valid = True
    except ValidationError:
        valid = False
    found = list(schema.check_schema(Object(Manifest("x", document), ManifestSet([]))))
    assert valid == (not found)


def test_without_the_extra_the_message_names_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "kubernetes_validate", None)
    schema.find_validator.cache_clear()
    with pytest.raises(ConfigError, match=r"is not installed.*pip install 'rsdl-train\[k8s\]'"):
        schema.find_validator("batch/v1", "Job")
    schema.find_validator.cache_clear()


@pytest.mark.parametrize("kind", ["../job", "Job/..", "", "No"])
def test_a_kind_is_never_a_path(kind: str):
    assert schema.find_validator("batch/v1", kind) is None


def test_what_is_for_kustomize_is_no_object_of_a_cluster():
    body = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    assert check(ManifestSet([Manifest("x", body)]), "nautilus") == []


def test_what_a_secret_holds_is_not_told():
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}}
    body |= {"stringData": {"key": 271828, "more": ["314159"]}}
    found = check(ManifestSet([Manifest("x", body)]), "none")
    assert {v.field for v in found} == {"stringData.key", "stringData.more"}
    assert "271828" not in str(found) and "314159" not in str(found)


def test_without_policies_a_cluster_of_others_has_its_own():
    path = "spec.template.spec.containers[0].command"
    manifests = set_part(read("training"), "Job", path, ["sleep", "infinity"])
    assert "job-sleep" in {violation.rule for violation in examine(manifests)}
    assert examine(manifests, "none") == []
