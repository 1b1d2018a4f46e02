"""Whether a Job is still what its manifest says."""

import json
from copy import deepcopy
from typing import Any

import pytest

from rsdl.cluster.diff import find_differences
from rsdl.cluster.jobs import APPLIED, as_submitted

MANIFEST: dict[str, Any] = {
    "metadata": {"name": "x", "labels": {"a": "b"}},
    "spec": {
        "backoffLimit": 3,
        "template": {
            "metadata": {"labels": {"a": "b"}},
            "spec": {
                "containers": [
                    {"name": "train", "image": "rsdl:1",
                     "resources": {"limits": {"cpu": "0.5", "memory": "8Gi"}}}
                ],
                "tolerations": [],
            },
        },
    },
}  # fmt: skip


def live(*, applied: bool) -> dict[str, Any]:
    """Return the Job that an API server makes of the manifest."""
    job = deepcopy(MANIFEST)
    job["metadata"]["uid"] = "u"
    if applied:
        job["metadata"]["annotations"] = {APPLIED: json.dumps(MANIFEST)}
    spec = job["spec"]
    spec |= {"parallelism": 1, "selector": {"matchLabels": {"controller-uid": "u"}}}
    spec["template"]["metadata"]["labels"]["controller-uid"] = "u"
    del spec["template"]["spec"]["tolerations"]
    spec["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"] = "500m"
    return job


@pytest.mark.parametrize("applied", [True, False])
def test_defaults_and_other_spellings_are_no_change(applied: bool):
    assert find_differences(MANIFEST, live(applied=applied)) == []


@pytest.mark.parametrize("applied", [True, False])
def test_a_change_is_named_by_its_path(applied: bool):
    changed = deepcopy(MANIFEST)
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = "rsdl:2"
    changed["spec"]["template"]["spec"]["tolerations"] = [{"key": "k"}]
    assert find_differences(changed, live(applied=applied)) == [
        "spec.template.spec.containers[0].image",
        "spec.template.spec.tolerations",
    ]


def test_what_was_taken_out_is_noticed_where_kubectl_has_kept_the_manifest():
    changed = deepcopy(MANIFEST)
    del changed["spec"]["backoffLimit"]
    assert find_differences(changed, live(applied=True)) == ["spec.backoffLimit"]
    assert find_differences(changed, live(applied=False)) == []


@pytest.mark.parametrize("applied", [True, False])
def test_a_job_can_be_made_anew_from_what_the_cluster_holds(applied: bool):
    again = as_submitted(live(applied=applied))
    assert find_differences(again, live(applied=True)) in ([], ["spec.parallelism"])
    assert "controller-uid" not in json.dumps(again) and '"u"' not in json.dumps(again)
