"""A completed run that its config makes longer is to be done, in every command of a sweep."""

import json
from pathlib import Path

import pytest
import yaml

from rsdl.commands.sweep.armada import write_job_set
from rsdl.commands.sweep.scope import JobSelector
from rsdl.commands.sweep.status import status
from rsdl.commands.sweep.submission import SubmitOptions
from rsdl.commands.sweep.submit import submit
from rsdl.config.load import load_config, to_yaml
from tests.integration.cluster.apiserver import ApiServer
from tests.integration.cluster.conftest import account, job, mount_config, write_record
from tests.integration.cluster.world import World

NAME = "cnn_ucm"


def write_manifests(folder: Path, **fields: object) -> Path:
    """Write a study of one Job whose config lies in a ConfigMap; return the config."""
    folder.mkdir(exist_ok=True)
    config = folder / f"{NAME}.yaml"
    tree = {"data": {"url": "data"}, "model": {"name": "test_vit"}, **fields}
    config.write_text(yaml.safe_dump(tree))
    text = to_yaml(load_config(str(config)))
    items = [account(), *mount_config(job(NAME), text)]
    for item in items:
        item["metadata"]["namespace"] = "study"
    body = {"kind": "List", "items": items}
    (folder / "study.json").write_text(json.dumps(body))
    return config


@pytest.fixture
def runs(tmp_path: Path) -> str:
    """Return where a run of 300 epochs is completed."""
    config = load_config(str(write_manifests(tmp_path / "k", trainer={"max_epochs": 300})))
    record = write_record(str(tmp_path / "runs"), NAME, config_digest=config.digest)
    assert record.epochs_completed == 300
    (tmp_path / "runs" / NAME / "config.yaml").write_text(to_yaml(config))
    return str(tmp_path / "runs")


def go(tmp_path: Path, runs: str, **fields: object) -> JobSelector:
    write_manifests(tmp_path / "k", **fields)
    selector = JobSelector(str(tmp_path / "k" / "study.json"), "study")
    options = SubmitOptions(every_s=0.01)
    assert submit(selector, options, runs=runs) == 0
    return selector


def test_it_is_submitted_once_and_its_old_job_replaced(
    api: ApiServer, world: World, runs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    go(tmp_path, runs, trainer={"max_epochs": 300})
    assert world.created == [] and "1 Job: 1 completed" in capsys.readouterr().out
    selector = go(tmp_path, runs, trainer={"max_epochs": 400})
    world.go_on(12)  # succeeded, and its record still says 300 epochs
    assert world.created == ["cnn-ucm"]
    status(runs, selector)
    table = capsys.readouterr().out
    assert "succeeded  extended  300/400" in table and "1 extended" in table
    assert "cnn_ucm: completed 300 epochs, its config says 400" in table
    go(tmp_path, runs, trainer={"max_epochs": 400})
    assert world.created == ["cnn-ucm", "cnn-ucm"]
    assert "the succeeded Job is deleted to make it anew" in capsys.readouterr().out


def test_armada_gets_it(
    api: ApiServer, runs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for epochs, left in ((300, 0), (400, 1)):
        write_manifests(tmp_path / "k", trainer={"max_epochs": epochs})
        selector = JobSelector(str(tmp_path / "k" / "study.json"), "study")
        write_job_set(selector, runs, str(tmp_path / "out.yaml"), dry_run=True)
        assert f"{left} are left" in capsys.readouterr().out


def test_one_that_was_completed_with_another_config_is_told_of(
    api: ApiServer, world: World, runs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    go(tmp_path, runs, trainer={"max_epochs": 300}, seed=1)
    assert world.created == []
    assert "Job/cnn-ucm: holds a run with another config: seed 0 -> 1" in capsys.readouterr().out
