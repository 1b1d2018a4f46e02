"""``rsdl sweep`` on runs of a core, a growing part and a rendezvous: they are one run each."""

import copy
from pathlib import Path

import pytest
import yaml

from rsdl.cluster.labels import CORE, GROWING, RENDEZVOUS, ROLE, plain
from rsdl.commands.sweep.cancel import CancelOptions, cancel
from rsdl.commands.sweep.scope import JobSelector
from rsdl.commands.sweep.submission import SubmitOptions
from rsdl.commands.sweep.submit import retry, submit
from tests.integration.cluster.apiserver import ApiServer
from tests.integration.cluster.conftest import account, job, mount_config, write_record
from tests.integration.cluster.test_status import show
from tests.integration.cluster.world import Object, World, is_alive

CONFIGS = ("cnn_ucm", "vit_aid")
PARTS = {CORE: "", GROWING: "-growing", RENDEZVOUS: "-rendezvous"}
NOW = SubmitOptions(9, every_s=0.01, wait=False)
YES = CancelOptions(everything=True, yes=True, every_s=0.01)


def jobs_of(config: str) -> list[Object]:
    """Return the three Jobs of a run, as rsdl k8s render has them."""
    found = []
    for role, suffix in PARTS.items():
        body = copy.deepcopy(job(config))
        body["metadata"]["name"] += suffix
        for part in (body, body["spec"]["template"]):
            part["metadata"]["labels"][ROLE] = role
        if role == RENDEZVOUS:
            del body["metadata"]["annotations"]
            body["spec"]["template"]["spec"]["containers"][0]["args"] = ["rendezvous"]
        found.append(body)
    return found


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Return manifests of two elastic runs."""
    path = tmp_path / "elastic.yaml"
    jobs = [each for config in CONFIGS for each in jobs_of(config)]
    path.write_text(yaml.safe_dump_all([account(), *jobs]))
    return path


def names(*configs: str) -> list[str]:
    return sorted(plain(config) + suffix for config in configs for suffix in PARTS.values())


def held(world: World) -> list[str]:
    return sorted(name for kind, _, name in world.objects if kind == "jobs")


def fates(world: World, **of: str) -> None:
    """Set what becomes of the pods of each role, for all runs."""
    for config in CONFIGS:
        for role, suffix in PARTS.items():
            world.fates[plain(config) + suffix] = [of[role]]


def test_a_run_is_submitted_as_a_whole_and_counts_once(
    api: ApiServer, world: World, study: Path, capsys: pytest.CaptureFixture[str]
):
    fates(world, core="hang", growing="pend", rendezvous="hang")
    assert submit(JobSelector(str(study)), SubmitOptions(1, every_s=0, wait=False)) == 0
    assert held(world) == names("cnn_ucm")
    assert world.created[-1] == "cnn-ucm"  # the last: where it is, all is
    assert submit(JobSelector(str(study)), SubmitOptions(2, every_s=0, wait=False)) == 0
    assert held(world) == names(*CONFIGS) and len(world.created) == 6
    assert "2 Jobs: 1 on the cluster before, 1 submitted" in capsys.readouterr().out
    world.go_on(3)
    rows = show(capsys, None, JobSelector(str(study)))
    assert {name: row["cluster"] for name, row in rows.items()} == dict.fromkeys(CONFIGS, "running")
    # Without manifests, from the cluster alone.
    assert set(show(capsys, None, JobSelector(study="hrrsi"))) == set(CONFIGS)


def test_cancel_leaves_nothing_of_a_run(api: ApiServer, world: World, study: Path):
    fates(world, core="hang", growing="hang", rendezvous="hang")
    submit(JobSelector(str(study)), NOW)
    world.go_on(3)
    assert cancel(["cnn_ucm"], JobSelector(str(study)), CancelOptions(yes=True, every_s=0.01)) == 0
    world.go_on(3)
    assert held(world) == names("vit_aid")
    assert cancel([], JobSelector(str(study)), YES) == 0
    world.go_on(3)
    assert held(world) == [] and not any(map(is_alive, pods(world)))


def test_what_has_failed_is_made_anew_as_a_whole_once_its_last_pod_has_saved(
    api: ApiServer, world: World, study: Path
):
    fates(world, core="wrong", growing="hang", rendezvous="succeed")
    submit(JobSelector(str(study)), NOW)
    world.go_on(4)
    old = {
        body["metadata"]["uid"] for (kind, _, _), body in world.objects.items() if kind == "jobs"
    }
    fates(world, core="hang", growing="hang", rendezvous="hang")

    def look(method: str, path: str) -> None:
        if method == "POST" and path.endswith("/jobs"):
            left = {each["metadata"]["labels"]["batch.kubernetes.io/controller-uid"]
                    for each in pods(world) if is_alive(each)}  # fmt: skip
            seen.append(left & old)

    seen: list[set[str]] = []
    api.spoil = look
    # Without manifests: those of the cluster are made again, all of them.
    assert retry(["cnn_ucm"], JobSelector(study="hrrsi"), SubmitOptions(9, every_s=0.01)) == 0
    new = {
        name: world.objects["jobs", "study", name]["metadata"]["uid"] for name in names("cnn_ucm")
    }
    assert len(new) == 3 and not set(new.values()) & old
    vit = {world.objects["jobs", "study", name]["metadata"]["uid"] for name in names("vit_aid")}
    assert vit <= old
    assert len(seen) == 3 and all(len(left) <= 1 for left in seen)  # that of vit_aid


def test_a_rendezvous_of_a_former_run_is_not_taken_for_one(
    api: ApiServer, world: World, study: Path
):
    fates(world, core="hang", growing="pend", rendezvous="succeed")
    submit(JobSelector(str(study)), NOW)
    world.go_on(4)
    with world.lock:  # as kubectl delete job cnn-ucm
        world.delete("jobs", "study", "cnn-ucm", "Background")
        world.go_on(1)
    before = world.objects["jobs", "study", "cnn-ucm-rendezvous"]["metadata"]["uid"]
    fates(world, core="hang", growing="pend", rendezvous="hang")
    assert submit(JobSelector(str(study)), SubmitOptions(9, every_s=0.01)) == 0
    assert world.objects["jobs", "study", "cnn-ucm-rendezvous"]["metadata"]["uid"] != before
    assert held(world) == names(*CONFIGS)


def test_a_completed_run_is_not_submitted(
    api: ApiServer, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    runs, path = str(tmp_path / "runs"), tmp_path / "one.yaml"
    core, *others = jobs_of("cnn_ucm")
    path.write_text(yaml.safe_dump_all([*mount_config(core, "model: {name: resnet50}"), *others]))
    write_record(runs, "cnn_ucm")
    assert submit(JobSelector(str(path)), NOW, runs=runs) == 0
    assert held(world) == [] and "1 Job: 1 completed" in capsys.readouterr().out


def pods(world: World) -> list[Object]:
    return [body for (kind, _, _), body in world.objects.items() if kind == "pods"]
