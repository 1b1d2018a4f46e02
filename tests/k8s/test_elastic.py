"""Runs whose number of nodes changes: a core, a part that grows, and where they meet."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from rsdl.cluster.labels import CORE, GROWING, INSTANCE, RENDEZVOUS, ROLE
from rsdl.cluster.load import Manifest, load_manifests
from rsdl.commands.k8s import render
from rsdl.commands.k8s_check import check_set
from rsdl.commands.sweep.armada import write_job_set
from rsdl.commands.sweep.scope import JobSelector
from rsdl.core.errors import ConfigError
from tests.k8s.conftest import K8S
from tests.k8s.kubelet import Process, start
from tests.k8s.rules import check_jobs, check_objects, cluster_of, gpus, pod_of

CONFIGS = str(K8S.parent / "configs")
JOB = "hrrsi-vit-base-aid"
ROLES = (CORE, GROWING, RENDEZVOUS)


@pytest.fixture
def elastic(folder: Path) -> Path:
    """Return the manifests, with one run of 2 to 5 nodes."""
    set_nodes(folder, "2:5", "vit_base_aid")
    return folder


def set_nodes(folder: Path, nodes: str, *configs: str) -> None:
    assert render(configs, out=str(folder), changes=(f"nodes={nodes}",), folder=CONFIGS) == 0


def jobs_of(objects: list[Manifest], instance: str = JOB) -> tuple[Manifest, Manifest, Manifest]:
    """Return core, growing part and rendezvous of a run."""
    found = {
        each.labels[ROLE]: each
        for each in objects
        if each.kind == "Job" and each.labels[INSTANCE] == instance
    }
    assert set(found) == set(ROLES)
    return found[CORE], found[GROWING], found[RENDEZVOUS]


def processes(objects: list[Manifest]) -> tuple[Process, Process, Process]:
    core, growing, rendezvous = jobs_of(objects)
    cluster = cluster_of(objects)
    return start(core, cluster, 0), start(growing, cluster, 0), start(rendezvous, cluster, 0)


@pytest.mark.parametrize("study", ["", "studies/segmentation"])
def test_a_study_of_elastic_runs_keeps_the_rules(folder: Path, study: str):
    set_nodes(folder, "1:3")
    objects = load_manifests(f"{folder}/{study}")
    assert len(list(check_jobs(objects))) == 2 * 27
    instances = {each.labels[INSTANCE] for each in objects if each.kind == "Job"}
    assert len(instances) == 27
    for instance in instances:
        core, growing, rendezvous = jobs_of(objects, instance)
        sizes = [each.body["spec"]["completions"] for each in (core, growing, rendezvous)]
        assert sizes == [each.body["spec"]["parallelism"] for each in (core, growing, rendezvous)]
        assert sizes == [1, 2, 1]


def test_all_nodes_meet_at_the_pod_of_the_rendezvous(elastic: Path):
    objects = load_manifests(str(elastic))
    rendezvous = jobs_of(objects)[2]
    (service,) = [each for each in objects if each.kind == "Service"]
    nodes, more, server = processes(objects)
    assert nodes.arguments == more.arguments and nodes.files == more.files
    assert nodes.arguments[2:] == [
        "--nnodes=2:5", f"--rdzv-endpoint={rendezvous.name}-0.rsdl:29500", f"--rdzv-id={JOB}",
        "trainer.rendezvous_s=300",
    ]  # fmt: skip
    assert server.arguments == ["rendezvous", "--port=29500", f"--rdzv-id={JOB}"]
    assert pod_of(rendezvous)["subdomain"] == service.name
    inner = rendezvous.body["spec"]["template"]["metadata"]["labels"]
    assert inner.items() >= service.body["spec"]["selector"].items()
    assert rendezvous.body["spec"]["completionMode"] == "Indexed"  # gives it that host name


def test_the_core_keeps_its_pods_and_anybody_may_preempt_the_rest(elastic: Path):
    core, growing, rendezvous = jobs_of(load_manifests(str(elastic)))
    assert "priorityClassName" not in pod_of(core)
    assert "priorityClassName" not in pod_of(rendezvous)
    assert pod_of(growing)["priorityClassName"] == "opportunistic"
    assert (core.body["spec"]["completions"], growing.body["spec"]["completions"]) == (2, 3)
    # What a run needs else is the same: nodes that go leave others that can do all.
    same = [dict(pod_of(each)) | {"priorityClassName": ""} for each in (core, growing)]
    assert same[0] == same[1]
    assert gpus(core) == {"nvidia.com/gpu": 1} and gpus(rendezvous) == {}


def test_one_pod_that_succeeds_ends_its_job_and_wrong_input_does_at_once(elastic: Path):
    core, growing, rendezvous = jobs_of(load_manifests(str(elastic)))
    for job in (core, growing):
        # It says that the run is completed: those that wait for a GPU need not.
        assert job.body["spec"]["successPolicy"] == {"rules": [{"succeededCount": 1}]}
        assert job.body["spec"]["backoffLimit"] == 12 * job.body["spec"]["completions"]
    for job in (core, growing, rendezvous):
        assert job.body["spec"]["podFailurePolicy"]["rules"][1:] == [
            {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [69, 75]}},
            {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [2]}},
        ]
        assert job.body["spec"]["activeDeadlineSeconds"] == 604800


def test_nodes_lie_in_one_zone_on_one_type_of_gpu_wherever_the_rendezvous_is(elastic: Path):
    core, growing, rendezvous = jobs_of(load_manifests(str(elastic)))
    terms = pod_of(core)["affinity"]["podAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]
    assert {term["topologyKey"] for term in terms} == {
        "topology.kubernetes.io/zone", "nvidia.com/gpu.product",
    }  # fmt: skip
    for term in terms:
        (match,) = term["labelSelector"]["matchExpressions"]
        assert match["key"] == ROLE and match["operator"] == "In"
        assert {each.labels[ROLE] in match["values"] for each in (core, growing)} == {True}
        assert rendezvous.labels[ROLE] not in match["values"]
        (key,) = term["matchLabelKeys"]
        assert core.labels[key] == growing.labels[key] == JOB
    assert "affinity" not in pod_of(rendezvous)


def test_components_above_reach_the_nodes_and_leave_the_rendezvous_alone(elastic: Path):
    before = jobs_of(load_manifests(str(elastic)))[2]
    names = ("gpu-h100", "multi-gpu-4", "opportunistic", "multi-node", "nvme-cache", "pvc-data",
             "pvc-runs")  # fmt: skip
    path = elastic / "jobs" / "vit_base_aid" / "kustomization.yaml"
    above = elastic / "above"
    above.mkdir()
    for chosen in (names, names[::-1]):
        content = {
            "resources": ["../base", f"../jobs/{path.parent.name}"],
            "components": [f"../components/{name}" for name in chosen],
        }
        (above / "kustomization.yaml").write_text(yaml.safe_dump(content))
        objects = load_manifests(str(above))
        core, growing, rendezvous = jobs_of(objects)
        assert dict(rendezvous.body) == dict(before.body)
        for job, process in check_jobs(objects):
            assert gpus(job) == {"nvidia.com/h100": 4}
            assert pod_of(job)["priorityClassName"] == "opportunistic"
            assert process.environment["RSDL_RUNS"] == "/runs/hrrsi"
            # A fixed number of nodes is for runs that have none.
            assert [text for text in process.arguments if "nnodes" in text] == ["--nnodes=2:5"]
        assert (core.body["spec"]["completions"], growing.body["spec"]["completions"]) == (2, 3)


def test_they_meet_under_any_names(elastic: Path):
    path = elastic / "kustomization.yaml"
    content = {"namePrefix": "alice-", "nameSuffix": "-v2", "namespace": "alice"}
    path.write_text(path.read_text() + yaml.safe_dump(content))
    objects = load_manifests(str(elastic))
    check_objects(objects)
    core, _, rendezvous = jobs_of(objects)
    assert core.name == f"alice-{JOB}-v2" and rendezvous.name == f"alice-{JOB}-rendezvous-v2"
    (service,) = [each for each in objects if each.kind == "Service"]
    for process in processes(objects)[:2]:
        assert f"--rdzv-endpoint={rendezvous.name}-0.{service.name}:29500" in process.arguments


def test_a_range_of_one_number_is_a_fixed_number(folder: Path):
    built = {}
    for nodes in ("3", "3:3"):
        set_nodes(folder, nodes, "vit_base_aid")
        built[nodes] = [dict(each.body) for each in load_manifests(f"{folder}/jobs/vit_base_aid")]
    assert built["3"] == built["3:3"]


@pytest.mark.parametrize("role", [GROWING, RENDEZVOUS])
def test_a_part_that_is_missing_is_named(elastic: Path, role: str):
    objects = load_manifests(str(elastic))
    left = [each for each in objects if each.labels.get(ROLE) != role]
    found = {each.rule for each in check_set(left, "nautilus") if each.severity == "error"}
    assert found == ({"pod-nodes"} if role == GROWING else {"rendezvous-endpoint"})


def in_indexed(folder: Path) -> None:
    render((), out=str(folder), folder=CONFIGS, indexed=True, changes=("nodes=1:3",))


def in_armada(folder: Path) -> None:
    set_nodes(folder, "1:3")
    write_job_set(JobSelector(str(folder)), str(folder / "runs"), str(folder / "armada.yaml"))


@pytest.mark.parametrize(
    ("to_refuse", "message"),
    [
        (in_indexed, "resnet50_ucm.yaml: trains on several nodes, or on the CPU: an index is one"),
        (in_armada, "is the core of a run whose nodes come and go, and Armada starts no pod again"),
    ],
)
def test_where_it_does_not_go_it_is_refused_in_one_line(
    folder: Path, to_refuse: Callable[[Path], None], message: str
):
    with pytest.raises(ConfigError, match=message) as found:
        to_refuse(folder)
    assert "\n" not in str(found.value)


def test_a_name_that_the_pods_of_its_rendezvous_could_not_have_is_refused(tmp_path: Path):
    problem = r"yaml: its job would be called .*-rendezvous: [0-9]+ letters, 54 at most"
    with pytest.raises(ConfigError, match=problem):
        changes = (f"study={'s' * 30}", "nodes=1:3")
        render((), out=str(tmp_path), changes=changes, folder=CONFIGS)
