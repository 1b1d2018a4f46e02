"""The committed manifests break no rule, and what they are made from is what the rules know."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rsdl.cluster import nautilus
from rsdl.cluster.nautilus import GPUS, REGIONS
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
        name = nautilus.region_named(region.label)
        assert name is not None and name == nautilus.region_of_class(region.storage_class)
        assert nautilus.INSIDE[region.inside.removeprefix("http://")] == name
        assert nautilus.OUTSIDE[region.outside.removeprefix("https://")] == name


def test_gpus_are_asked_for_as_the_rules_want():
    for gpu in GPUS.values():
        if gpu.products:
            assert gpu.resource == nautilus.GPU and set(gpu.products) <= set(
                nautilus.SHARED_PRODUCTS
            )
        else:
            assert gpu.resource in nautilus.OWN_RESOURCES
