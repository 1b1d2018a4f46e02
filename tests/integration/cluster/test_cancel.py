"""``rsdl sweep cancel``: nothing is left, nothing is forced."""

from pathlib import Path

import pytest

from rsdl.commands.sweep.cancel import CancelOptions, cancel
from rsdl.commands.sweep.scope import JobSelector
from rsdl.commands.sweep.submission import SubmitOptions
from rsdl.commands.sweep.submit import submit
from rsdl.core.errors import ConfigError
from tests.integration.cluster.apiserver import ApiServer
from tests.integration.cluster.conftest import CONFIGS
from tests.integration.cluster.world import World, is_alive

YES = CancelOptions(everything=True, yes=True, every_s=0.01)


@pytest.fixture
def running(api: ApiServer, world: World, study: Path) -> World:
    """Return a cluster where five Jobs run and one has succeeded."""
    world.fates = {config.replace("_", "-"): ["hang"] for config in CONFIGS[1:]}
    assert submit(JobSelector(str(study)), SubmitOptions(9, every_s=0, wait=False)) == 0
    world.go_on(6)
    api.requests.clear()
    return world


def unfinished(world: World) -> list[str]:
    jobs = [name for (kind, _, name), body in world.objects.items()
            if kind == "jobs" and not body["status"].get("conditions")]  # fmt: skip
    return jobs + [n for (k, _, n), body in world.objects.items() if k == "pods" and is_alive(body)]


def test_cancel_leaves_nothing_that_runs(running: World, api: ApiServer,
                                         capsys: pytest.CaptureFixture[str]):  # fmt: skip
    assert len(unfinished(running)) == 10
    assert cancel([], JobSelector(), YES) == 0
    assert unfinished(running) == []
    assert ("jobs", "study", CONFIGS[0].replace("_", "-")) in running.objects
    assert "5 Jobs are gone" in capsys.readouterr().out
    assert {method for method, _ in api.changes} == {"DELETE"}
    assert cancel([], JobSelector(), YES) == 0
    assert "nothing to cancel" in capsys.readouterr().out


def test_a_job_stays_until_its_pod_has_saved_and_gone(running: World, api: ApiServer):
    """Else another could be made in the meantime, and two pods would write one run."""
    seen: list[bool] = []

    def look(method: str, path: str) -> None:
        pods = [b for (k, _, _), b in running.objects.items() if k == "pods" and is_alive(b)]
        owners = {pod["metadata"]["ownerReferences"][0]["name"] for pod in pods}
        seen.append(all(("jobs", "study", name) in running.objects for name in owners))

    api.spoil = look
    cancel([], JobSelector(), YES)
    assert seen and all(seen)


def test_a_dry_run_changes_nothing(running: World, api: ApiServer,
                                   capsys: pytest.CaptureFixture[str]):  # fmt: skip
    before = unfinished(running)
    assert cancel([], JobSelector(), CancelOptions(everything=True, dry_run=True)) == 0
    assert api.changes == [] and unfinished(running) == before
    assert capsys.readouterr().out.count("would be deleted") == 5


def test_those_that_are_named_go(running: World, capsys: pytest.CaptureFixture[str]):
    named = CancelOptions(yes=True, every_s=0.01)
    assert cancel([CONFIGS[1], "configs/swin_ucm.yaml", CONFIGS[0]], JobSelector(), named) == 0
    said = capsys.readouterr().out
    assert "Job/cnn-ucm: has succeeded already" in said and "2 Jobs are gone" in said
    assert len(unfinished(running)) == 6


def test_what_is_not_meant_is_asked_for_or_refused(running: World, api: ApiServer):
    with pytest.raises(ConfigError, match="NAME: names no Job; name Jobs, or pass --all"):
        cancel([], JobSelector(), CancelOptions(yes=True))
    with pytest.raises(ConfigError, match="is given with --all"):
        cancel(["cnn_ucm"], JobSelector(), YES)
    with pytest.raises(ConfigError, match="resnet: no such Job in this study; there are: cnn-aid"):
        cancel(["resnet"], JobSelector(), CancelOptions(yes=True))
    with pytest.raises(ConfigError, match="--yes: is missing, and there is no terminal"):
        cancel([], JobSelector(), CancelOptions(everything=True))
    assert api.changes == []


def test_submitted_again_they_go_on(running: World, study: Path):
    cancel([], JobSelector(), YES)
    running.fates = {}
    assert submit(JobSelector(str(study)), SubmitOptions(9, every_s=0.01)) == 0
    assert sorted(running.created) == sorted(
        [config.replace("_", "-") for config in CONFIGS]
        + [config.replace("_", "-") for config in CONFIGS[1:]]
    )
