"""The manifests as they are, on a real API server, by somebody who owns one namespace alone."""

from pathlib import Path

import pytest
import yaml

from rsdl.cluster.diff import find_differences
from rsdl.cluster.jobs import APPLIED
from rsdl.cluster.load import load_manifests
from tests.integration.apiserver.conftest import kubectl, render_study
from tests.integration.apiserver.plane import Object, Space, wait_for

pytestmark = pytest.mark.apiserver

# What Kubernetes 1.20 does not know, and drops.
DROPPED = {
    "spec.podFailurePolicy", "spec.podReplacementPolicy", "spec.completionMode",
    "spec.backoffLimitPerIndex", "spec.maxFailedIndexes",
}  # fmt: skip
ENTRIES = ("base", "base/volumes", "data", "dev", "jobs/quickstart", "indexed", "")


def test_every_entry_point_is_taken_as_it_is(space: Space, rendered: Path):
    for entry in ENTRIES:
        kubectl("apply", "--validate=ignore", "-k", rendered / entry)
    jobs = {job["metadata"]["name"]: job for job in space.list("batch/jobs")}
    assert len(jobs) == 27 + 3
    for entry in ENTRIES:
        for manifest in load_manifests(str(rendered / entry)):
            if manifest.kind == "Job":
                assert set(dropped(dict(manifest.body), jobs[manifest.name])) <= DROPPED
    assert space.names("v1/pods") >= {"hrrsi-dev"}
    wait_for(lambda: all(job["status"].get("active") for job in space.list("batch/jobs")))
    # Given again, as the page says, it does no harm.
    before = of(space, "batch/jobs", "hrrsi"), space.names("v1/pods")
    kubectl("apply", "--validate=ignore", "-k", rendered)
    assert (of(space, "batch/jobs", "hrrsi"), space.names("v1/pods")) == before


def dropped(asked: Object, held: Object) -> list[str]:
    """Return what of a manifest the API server does not hold, whatever kubectl has noted."""
    held["metadata"]["annotations"].pop(APPLIED, None)
    return find_differences(asked, held)


def test_every_component_is_taken(space: Space, rendered: Path):
    for name in sorted(path.name for path in (rendered / "components").iterdir()):
        overlay = rendered / "overlays" / name
        overlay.mkdir(parents=True)
        content = {
            "resources": ["../../jobs/vit_base_ucm"],
            "components": [f"../../components/{name}"],
            "nameSuffix": f"-{name}",
        }
        (overlay / "kustomization.yaml").write_text(yaml.safe_dump(content))
    names = [path.name for path in (rendered / "overlays").iterdir()]
    everything = rendered / "overlays" / "kustomization.yaml"
    everything.write_text(yaml.safe_dump({"resources": names}))
    said = kubectl("apply", "--validate=ignore", "--dry-run=server", "-k", everything.parent)
    assert said.count("job.batch/hrrsi-vit-base-ucm-") == len(names)
    assert space.list("batch/jobs") == []


def test_two_studies_and_the_indexed_job_do_not_touch_each_other(space: Space, tmp_path: Path):
    first = render_study(tmp_path / "first", space)
    second = render_study(tmp_path / "second", space, "study=second", "bucket=other")
    kubectl("apply", "--validate=ignore", "-k", first)
    kubectl("apply", "--validate=ignore", "-k", first / "indexed")
    before = {kind: of(space, kind, "hrrsi") for kind in ("batch/jobs", "v1/configmaps")}
    assert len(before["batch/jobs"]) == 28 and len(before["v1/configmaps"]) == 28
    kubectl("apply", "--validate=ignore", "-k", second)
    kubectl("apply", "--validate=ignore", "-k", second / "indexed")
    for kind, objects in before.items():
        assert of(space, kind, "hrrsi") == objects
        assert len(of(space, kind, "second")) == len(objects)
    # As docs/nautilus.md removes a study.
    kubectl("delete", "job,configmap", "-l", "rsdl/study=second")
    for kind, objects in before.items():
        assert of(space, kind, "hrrsi") == objects and of(space, kind, "second") == {}
    assert space.names("v1/services") == {"rsdl"}


def of(space: Space, kind: str, study: str) -> dict[str, Object]:
    """Return what each object of a study is asked to be, by name."""
    return {
        each["metadata"]["name"]: {
            "uid": each["metadata"]["uid"], "spec": each.get("spec"), "data": each.get("data"),
        }
        for each in space.list(kind)
        if each["metadata"].get("labels", {}).get("rsdl/study") == study
    }  # fmt: skip
