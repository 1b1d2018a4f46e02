"""Components go together in any number and any order, and change what they say and nothing else."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from rsdl.cluster.load import Manifest, load_manifests
from rsdl.cluster.nautilus import GIB, GPU_COUNTS, GPUS, REGIONS
from rsdl.cluster.policy.quantity import parse_quantity
from tests.k8s.conftest import K8S
from tests.k8s.rules import check_jobs, expressions, gpus, pod_of

EXTRAS = ("opportunistic", "multi-node", "nvme-cache", "pvc-data", "pvc-runs")


def combinations() -> Iterator[tuple[str, ...]]:
    """Yield choices of components; every other one in reverse, since order must not matter."""
    extras = [(), *((name,) for name in EXTRAS), EXTRAS]
    regions = itertools.cycle(REGIONS)
    choices = itertools.product(GPUS, GPU_COUNTS, extras)
    for number, (gpu, count, more) in enumerate(choices):
        region = next(regions)
        names = [f"gpu-{gpu}", f"region-{region}", *[f"multi-gpu-{count}"] * (count > 1), *more]
        yield tuple(names[::-1] if number % 2 else names)


def overlay(folder: Path, name: str, components: tuple[str, ...], job: str) -> None:
    """Write an overlay over a job of ``folder``."""
    own = folder / "overlays" / name
    own.mkdir(parents=True)
    content = {
        "resources": [f"../../jobs/{job}"],
        "components": [f"../../components/{component}" for component in components],
        "nameSuffix": f"-{name}",
    }
    (own / "kustomization.yaml").write_text(yaml.safe_dump(content))


def combine(
    folder: Path, choices: list[tuple[str, ...]], job: str
) -> tuple[dict[str, Manifest], list[Manifest]]:
    """Return the Job of each choice by its number, and all objects, built at once."""
    for number, components in enumerate(choices):
        overlay(folder, str(number), components, job)
    resources = [f"{number}" for number in range(len(choices))]
    (folder / "overlays" / "kustomization.yaml").write_text(
        yaml.safe_dump({"resources": resources})
    )
    objects = load_manifests(f"{folder}/overlays")
    jobs = {each.name.rpartition("-")[2]: each for each in objects if each.kind == "Job"}
    return jobs, objects


def test_every_component_is_tried():
    used = {name for choice in combinations() for name in choice}
    # Every folder has taken in the settings already, and a job above elastic-nodes is made of more
    # than one: see test_elastic.py.
    assert used | {"settings", "elastic-nodes"} == {
        path.name for path in (K8S / "components").iterdir()
    }


@pytest.mark.parametrize(
    ("name", "study"),
    [
        ("resnet50_ucm", "hrrsi"),
        ("resnet50_loveda", "hrrsi-segmentation"),
        ("resnet50_dota", "hrrsi-detection"),
    ],
)
def test_runs_on_a_volume_lie_in_the_folder_of_their_study(folder: Path, name: str, study: str):
    _, objects = combine(folder, [("pvc-runs",)], name)
    ((_, process),) = check_jobs(objects)
    assert process.environment["RSDL_RUNS"] == f"/runs/{study}"


@pytest.mark.slow
def test_components_go_together(folder: Path):
    choices = list(combinations())
    built, objects = combine(folder, choices, "resnet50_ucm")
    assert len(built) == len(choices)
    shared = [each for each in objects if each.kind != "Job"]
    shared += load_manifests(f"{folder}/base")
    for number, components in enumerate(choices):
        check_choice([built[str(number)], *shared], components)


def check_choice(objects: list[Manifest], components: tuple[str, ...]) -> None:
    ((job, process),) = check_jobs(objects)
    pod = pod_of(job)
    found = dict(name.split("-", 1) for name in components if name.startswith(("gpu-", "region-")))
    gpu = GPUS[found["gpu"]]
    count = next((int(name[10:]) for name in components if name.startswith("multi-gpu-")), 1)
    assert gpus(job) == {gpu.resource: count}
    assert tuple(expressions(pod).get("nvidia.com/gpu.product", ())) == gpu.products
    region = pod["nodeSelector"]["topology.kubernetes.io/region"]
    assert region == REGIONS[found["region"]].label
    asked = pod["containers"][0]["resources"]["limits"]
    assert int(asked["cpu"]) >= 4 * count
    memory = parse_quantity(asked["memory"])
    assert memory is not None and memory >= count * 8 * GIB
    assert ("priorityClassName" in pod) == ("opportunistic" in components)
    assert (job.body["spec"].get("completions") == 2) == ("multi-node" in components)
    env = process.environment
    assert (env["RSDL_CACHE_SIZE"] == "200GB") == ("nvme-cache" in components)
    assert (env["RSDL_DATA"] == "/data") == ("pvc-data" in components)
    assert (env["RSDL_RUNS"] == "/runs/hrrsi") == ("pvc-runs" in components)


def test_a_volume_has_the_storage_class_of_its_region(folder: Path):
    for name, region in REGIONS.items():
        path = folder / "base" / "volumes" / "kustomization.yaml"
        path.write_text(path.read_text().replace("region-west", f"region-{name}"))
        claims = load_manifests(str(path.parent))
        assert {claim.body["spec"]["storageClassName"] for claim in claims} == {
            region.storage_class
        }
        path.write_text(path.read_text().replace(f"region-{name}", "region-west"))


def test_a_component_for_the_whole_study_reaches_every_job(folder: Path):
    path = folder / "kustomization.yaml"
    names = ("region-east", "gpu-a100", "opportunistic", "multi-node")
    added = {"components": [f"components/{name}" for name in names]}
    path.write_text(path.read_text() + yaml.safe_dump(added))
    jobs = [job for job, _ in check_jobs(load_manifests(str(folder)))]
    assert len(jobs) == 27
    for job in jobs:
        assert gpus(job) == {"nvidia.com/a100": 1}
        assert job.body["spec"]["completions"] == 2


def test_pods_find_each_other_under_any_names(folder: Path):
    path = folder / "kustomization.yaml"
    content = {"components": ["components/multi-node"], "namePrefix": "alice-"}
    path.write_text(path.read_text() + yaml.safe_dump(content))
    objects = load_manifests(str(folder))
    (service,) = [each for each in objects if each.kind == "Service"]
    for job, process in check_jobs(objects):
        pod = job.body["spec"]["template"]
        assert job.name.startswith("alice-") and pod["spec"]["subdomain"] == service.name
        assert pod["spec"]["serviceAccountName"] == "alice-rsdl"
        assert process.environment["RSDL_SERVICE"] == service.name == "alice-rsdl"
        selector = service.body["spec"]["selector"]
        assert pod["metadata"]["labels"].items() >= selector.items()
    assert service.body["spec"]["clusterIP"] == "None"
