"""The committed manifests break no rule, and what they are made from is what the rules know."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rsdl.cluster.places import GPUS, REGIONS
from rsdl.cluster.policy.nautilus import facts
from rsdl.commands.k8s_check import check_set, load_sets

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("folder", ["", "data", "dev", "jobs/quickstart"])
def test_the_committed_manifests_break_no_rule(folder: str, require: Callable[[str, bool], None]):
    require("kubectl", bool(shutil.which("kubectl") or shutil.which("kustomize")))
    (manifests,) = load_sets(str(ROOT / "k8s" / folder))
    found = check_set(manifests, "nautilus", ROOT / "configs")
    assert [violation for violation in found if violation.severity != "note"] == []
    # What other folders of k8s/ hold is not in these sets; the study is whole.
    assert folder or found == []


def test_regions_are_those_that_the_rules_know():
    for region in REGIONS.values():
        name = facts.region_named(region.label)
        assert name is not None and name == facts.region_of_class(region.storage_class)
        assert facts.INSIDE[region.inside.removeprefix("http://")] == name
        assert facts.OUTSIDE[region.outside.removeprefix("https://")] == name


def test_gpus_are_asked_for_as_the_rules_want():
    for gpu in GPUS.values():
        if gpu.products:
            assert gpu.resource == facts.GPU and set(gpu.products) <= set(facts.SHARED_PRODUCTS)
        else:
            assert gpu.resource in facts.OWN_RESOURCES
