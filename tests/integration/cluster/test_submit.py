"""``rsdl sweep submit`` and ``retry``, through the real kubectl."""

import os
import random
import signal
from pathlib import Path

import pytest
import yaml

from rsdl.commands.sweep.scope import JobSelector, find_scope, runs_of
from rsdl.commands.sweep.submission import SubmitOptions
from rsdl.commands.sweep.submit import retry, submit
from rsdl.core.errors import ClusterError, ConfigError, DataError
from tests.integration.cluster.apiserver import ApiServer, failure
from tests.integration.cluster.conftest import CONFIGS, job, write_record, write_study
from tests.integration.cluster.world import World
from tests.integration.conftest import Rsdl

K8S = Path(__file__).parents[3] / "k8s"
JOBS = {config.replace("_", "-"): config for config in CONFIGS}
HISTORIES = (
    ["succeed"], ["preempt", "succeed"], ["leave", "preempt", "preempt", "succeed"],
    ["crash", "crash", "succeed"], ["wrong"], ["crash"], ["oom", "succeed"],
)  # fmt: skip
FAILS = (["wrong"], ["crash"])


def options(max_running: int = 9, **fields: bool) -> SubmitOptions:
    return SubmitOptions(max_running, every_s=0.01, **fields)


@pytest.mark.parametrize("seed", range(5))
def test_never_more_run_than_asked_and_none_is_submitted_twice(
    seed: int, api: ApiServer, world: World, study: Path, tmp_path: Path
):
    dice = random.Random(seed)
    runs = str(tmp_path / "runs")
    max_running = dice.randint(1, 4)
    done = dice.sample(CONFIGS, dice.randint(0, 3))
    for config in done:
        write_record(runs, config)
    world.random, world.steps, world.expire = dice, 4, bool(dice.getrandbits(1))
    world.on_success = lambda name: write_record(runs, JOBS[name])
    fates = {name: list(dice.choice(HISTORIES)) for name in JOBS}
    world.fates = {name: list(fate) for name, fate in fates.items()}
    submit(JobSelector(str(study)), options(max_running), runs=runs)
    assert world.max_active <= max_running
    assert sorted(world.created) == sorted(set(JOBS) - {c.replace("_", "-") for c in done})
    world.go_on(12)
    first = list(world.created)
    code = submit(JobSelector(str(study)), options(max_running), runs=runs)
    assert world.created == first, "something was submitted twice"
    assert world.max_active <= max_running
    failed = any(fates[name] in FAILS for name in first)
    assert code == (1 if failed else 0)


@pytest.mark.parametrize("seed", range(2))
def test_killed_and_started_again_it_goes_on(
    seed: int, rsdl: Rsdl, api: ApiServer, world: World, study: Path
):
    dice = random.Random(seed)
    world.random, world.steps = dice, 4
    world.fates = {name: ["preempt", "succeed"] for name in JOBS}
    env = {name: os.environ[name] for name in ("KUBECONFIG", "KUBECACHEDIR")}
    deaths = 0
    for _ in range(40):
        left = [dice.randint(1, 8)]
        pid = [0]

        def strike(method: str, path: str, left: list[int] = left, pid: list[int] = pid) -> None:
            if "/namespaces/study/" in path:
                left[0] -= 1
                if not left[0] and pid[0]:
                    os.kill(pid[0], signal.SIGKILL)

        api.spoil = strike
        flags = ("--max-running", 2, "--every", 0.05)
        command = rsdl.start("sweep", "submit", study, *flags, env=env)
        pid[0] = command.pid
        ended = command.wait()
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        deaths += 1
    assert deaths and ended.returncode == 0
    assert sorted(world.created) == sorted(JOBS) and world.max_active <= 2


def test_a_dry_run_changes_nothing(api: ApiServer, world: World, study: Path, tmp_path: Path,
                                   capsys: pytest.CaptureFixture[str]):  # fmt: skip
    runs = str(tmp_path / "runs")
    write_record(runs, "cnn_ucm")
    assert submit(JobSelector(str(study)), options(2, dry_run=True), runs=runs) == 0
    assert api.changes == [] and world.objects == {}
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "ServiceAccount/rsdl: would be applied",
        "Job/cnn-aid: would be submitted",
        "Job/swin-aid: would be submitted",
        "Job/swin-ucm: would be submitted, once there is room",
        "Job/vit-aid: would be submitted, once there is room",
        "Job/vit-ucm: would be submitted, once there is room",
        "6 Jobs: 1 completed, 5 to be submitted",
    ]


def test_what_others_run_takes_up_room_too(api: ApiServer, world: World, study: Path):
    stray = job("other_net")
    world.fates["other-net"] = ["hang"]
    world.put("jobs", "study", stray)
    assert submit(JobSelector(str(study)), options(2, wait=False)) == 0
    assert world.created == ["other-net", "cnn-aid"]
    assert submit(JobSelector(str(study)), options(1, wait=False)) == 0
    assert world.created == ["other-net", "cnn-aid"]


def test_without_waiting_it_does_what_can_be_done_now(
    api: ApiServer, world: World, study: Path, capsys: pytest.CaptureFixture[str]
):
    assert submit(JobSelector(str(study)), options(2, wait=False)) == 0
    assert world.created == ["cnn-aid", "cnn-ucm"]
    said = capsys.readouterr().out
    assert "6 Jobs: 2 submitted, 4 waiting" in said and "run the same command again" in said
    assert ("serviceaccounts", "study", "rsdl") in world.objects


def test_a_failed_job_is_told_of_and_left_to_retry(
    api: ApiServer, world: World, study: Path, capsys: pytest.CaptureFixture[str]
):
    world.fates["cnn-ucm"] = ["wrong"]
    assert submit(JobSelector(str(study)), options(2)) == 1
    assert submit(JobSelector(str(study)), options(2)) == 1
    line = "Job/cnn-ucm: failed: not to be retried: exit code 2 (wrong input): data.url: no manif"
    said = capsys.readouterr().out
    assert line in said and "to submit it anew: rsdl sweep retry cnn-ucm" in said
    assert world.created.count("cnn-ucm") == 1
    world.fates["cnn-ucm"] = ["hang"]
    assert retry(["cnn_ucm"], JobSelector(), options(2)) == 0
    assert world.created.count("cnn-ucm") == 2 and len(world.created) == 7


def test_retry_takes_all_that_have_failed_and_keeps_to_the_limit(
    api: ApiServer, world: World, study: Path, capsys: pytest.CaptureFixture[str]
):
    world.fates = {name: ["crash"] for name in JOBS if name != "vit-ucm"}
    submit(JobSelector(str(study)), options(9))
    world.go_on(15)
    before = len(world.created)
    world.fates, world.max_active = {name: ["succeed"] for name in JOBS}, 0
    assert retry([], JobSelector(), options(2, dry_run=True)) == 0
    assert len(world.created) == before and ("jobs", "study", "cnn-aid") in world.objects
    assert retry([], JobSelector(), options(2)) == 0
    assert sorted(world.created[before:]) == sorted(set(JOBS) - {"vit-ucm"})
    assert world.max_active <= 2
    capsys.readouterr()
    assert retry(["vit-ucm"], JobSelector(), options(2)) == 1
    assert "Job/vit-ucm: is completed; it is left as it is" in capsys.readouterr().out


def test_retry_takes_the_manifest_that_was_mended(api: ApiServer, world: World, tmp_path: Path):
    study = write_study(tmp_path / "k8s", ("cnn_ucm",))
    world.fates["cnn-ucm"] = ["oom"]
    submit(JobSelector(str(study)), options())
    world.go_on(20)
    write_study(study, ("cnn_ucm",), memory="16Gi")
    world.fates["cnn-ucm"] = ["hang"]
    assert retry([], JobSelector(), options()) == 0
    made = world.objects["jobs", "study", "cnn-ucm"]["spec"]["template"]["spec"]["containers"][0]
    assert made["resources"]["limits"] == {"memory": "16Gi"}


def test_a_run_that_failed_and_whose_job_expired_waits_for_retry(
    api: ApiServer, world: World, study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    runs = str(tmp_path / "runs")
    write_record(runs, "cnn_ucm", "failed", reason="the loss is not finite")
    assert submit(JobSelector(str(study)), options(), runs=runs) == 1
    assert "cnn-ucm" not in world.created and len(world.created) == 5
    assert "its run says: the loss is not finite" in capsys.readouterr().out
    assert retry(["cnn-ucm"], JobSelector(str(study)), options(), runs=runs) == 0
    assert "cnn-ucm" in world.created


def test_a_changed_manifest_of_a_job_that_runs_is_told_of(
    api: ApiServer, world: World, study: Path, capsys: pytest.CaptureFixture[str]
):
    world.fates = {name: ["hang"] for name in JOBS}
    assert submit(JobSelector(str(study)), options()) == 0
    write_study(study, memory="16Gi")
    assert submit(JobSelector(str(study)), options()) == 1
    said = capsys.readouterr().out
    path = "spec.template.spec.containers[0].resources.limits.memory and 1 more fields"
    assert f"Job/vit-ucm: runs from another manifest than this one ({path})" in said
    assert len(world.created) == 6


def test_a_job_that_someone_cancels_meanwhile_is_not_made_again(
    api: ApiServer, world: World, study: Path
):
    """A queue that only shrinks: what was seen on the cluster is not this command's any more."""

    def cancel(method: str, path: str) -> None:
        key = ("jobs", "study", "cnn-aid")
        if key in world.objects and path.endswith("/jobs") and method == "GET":
            with world.lock:
                world.delete(*key, "Foreground")

    world.fates = {name: ["preempt", "succeed"] for name in JOBS}
    api.spoil = cancel
    assert submit(JobSelector(str(study)), options(1)) == 0
    assert world.created.count("cnn-aid") == 1 and len(world.created) == 6


def test_pods_of_a_deleted_job_are_waited_for(api: ApiServer, world: World, tmp_path: Path):
    study = write_study(tmp_path / "one", ("cnn_ucm",))
    world.fates["cnn-ucm"] = ["hang"]
    submit(JobSelector(str(study)), options())
    world.go_on(3)
    with world.lock:
        world.delete("jobs", "study", "cnn-ucm", "Background")  # as kubectl delete does
    assert submit(JobSelector(str(study)), options(wait=False)) == 0
    alive = [key for key in world.objects if key[0] in ("jobs", "pods")]
    assert submit(JobSelector(str(study)), options()) == 0
    assert world.created.count("cnn-ucm") == 2 and world.max_active == 1, alive


def test_an_api_server_that_is_away_for_a_while_is_waited_for(
    api: ApiServer, world: World, study: Path, capsys: pytest.CaptureFixture[str]
):
    troubles = iter([429, 0, 503, 500, 0, 504] * 3)

    def trouble(method: str, path: str) -> tuple[int, dict[str, object]] | None:
        if world.created and "/namespaces/study/" in path and (code := next(troubles, 0)):
            return code, failure(code, REASONS[code], "not now")
        return None

    api.spoil = trouble
    assert submit(JobSelector(str(study)), options(2)) == 0
    assert sorted(world.created) == sorted(JOBS) and world.max_active <= 2
    assert "trying again" in capsys.readouterr().err


REASONS = {429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable", 504: "Timeout"}


def test_interrupted_it_says_how_to_go_on(rsdl: Rsdl, api: ApiServer, world: World, study: Path):
    world.fates = {name: ["hang"] for name in JOBS}
    env = {name: os.environ[name] for name in ("KUBECONFIG", "KUBECACHEDIR")}
    command = rsdl.start("sweep", "submit", study, "--max-running", 2, "--every", 60, env=env)
    command.wait_for(lambda: len(world.created) == 2)
    command.wait_for(lambda: "cnn-ucm: submitted" in command.stdout)
    command.send(signal.SIGINT)
    ended = command.wait()
    assert ended.returncode == 130 and "stopped, 4 are not submitted" in ended.stdout
    assert len(world.created) == 2


def test_what_cannot_be_meant_is_refused(api: ApiServer, study: Path, tmp_path: Path):
    with pytest.raises(ClusterError, match='no such namespace: namespaces "nope" not found'):
        submit(JobSelector(str(study), "nope"), options())
    with pytest.raises(ConfigError, match="holds no Job"):
        submit(JobSelector(str(study / "account.yaml")), options())
    write_study(tmp_path / "other", ("cnn_ucm",), study="second")
    (tmp_path / "other" / "x.yaml").write_text((study / "vit_ucm.yaml").read_text())
    (tmp_path / "other" / "kustomization.yaml").unlink()
    with pytest.raises(ConfigError, match="holds the studies hrrsi, second; submit one"):
        submit(JobSelector(str(tmp_path / "other")), options())
    (tmp_path / "runs" / "cnn_ucm").mkdir(parents=True)
    (tmp_path / "runs" / "cnn_ucm" / "run.json").write_text("{}")
    with pytest.raises(DataError, match=r"cnn_ucm/run.json: is not a run record"):
        submit(JobSelector(str(study)), options(), runs=str(tmp_path / "runs"))
    assert api.changes == []


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (("metadata", "labels", "rsdl/study"), "metadata.labels lacks rsdl/study"),
        (("metadata", "annotations", "rsdl/config"), "annotations lacks rsdl/config"),
        (("spec", "template", "metadata", "labels", "app.kubernetes.io/name"),
         "spec.template lacks app.kubernetes.io/name=rsdl"),
    ],
)  # fmt: skip
def test_a_job_that_would_not_be_found_again_is_refused(
    path: tuple[str, ...], words: str, tmp_path: Path
):
    body = job("cnn_ucm")
    place = body
    for name in path[:-1]:
        place = place[name]
    del place[path[-1]]
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(body))
    with pytest.raises(ConfigError, match=f"Job/cnn-ucm: .*{words}"):
        submit(JobSelector(str(tmp_path / "job.yaml")), options())


def test_where_the_committed_study_s_runs_lie_is_told_as_a_url():
    scope = find_scope(JobSelector(str(K8S)))
    assert runs_of((*scope.jobs, *scope.others)) == "s3://rsdl/runs/hrrsi"
