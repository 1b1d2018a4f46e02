"""``rsdl k8s check``: what it prints, and its exit code."""

import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from rsdl.cli import app
from rsdl.cluster.policy.rules import PROFILES
from rsdl.cluster.server import RULES
from rsdl.commands.k8s_check import check, load_sets, read_gpu_use
from rsdl.core.errors import ConfigError, DataError
from tests.integration.cluster.conftest import write_record

TRAINING = Path(__file__).parents[1] / "cluster" / "policy" / "good" / "training.yaml"
CONFIGS = Path(__file__).parents[3] / "configs"
ALL_27 = sorted(path.stem for path in CONFIGS.glob("*_*.yaml"))

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return what writes the training Job to a file, once for each config, after a change."""

    def write_jobs(*configs: str, **changes: object) -> Path:
        *others, job = yaml.safe_load_all(TRAINING.read_text())
        documents: list[Any] = others
        for config in configs:
            text = json.dumps(job).replace("resnet50_ucm", config)
            one = json.loads(text.replace("resnet50-ucm", config.replace("_", "-")))
            architecture = config.rpartition("_")[0]
            for place in (one, one["spec"]["template"]):
                place["metadata"]["labels"]["rsdl/architecture"] = architecture
            one["spec"] |= changes
            documents.append(one)
        path = tmp_path / "jobs.yaml"
        path.write_text(yaml.safe_dump_all(documents))
        return path

    return write_jobs


def run(*arguments: object) -> tuple[int, list[str]]:
    result = CliRunner().invoke(app, ["k8s", "check", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout.splitlines()


def test_the_27_jobs_of_the_study_are_found_good(write: Write):
    assert len(ALL_27) == 27
    code, lines = run(write(*ALL_27), "--configs", CONFIGS)
    assert (code, lines) == (0, ["29 objects: 0 errors, 0 warnings, 0 notes"])


def test_what_27_jobs_share_is_told_once_and_each_by_all(write: Write):
    path = write(*ALL_27, backoffLimit=0, backoffLimitPerIndex=1)
    code, lines = run(path, "--configs", CONFIGS)
    assert code == 1
    assert lines[0] == f"{path}: Job/convnext-base-aid"
    assert "error   backoff-per-index: spec.backoffLimitPerIndex: needs completionMode" in lines[1]
    assert lines[1].endswith("(and 26 more Jobs)")
    assert lines[2].startswith("  warning backoff-zero: spec.backoffLimit: is 0")
    assert lines[3:] == ["29 objects: 27 errors, 27 warnings, 0 notes"]
    code, lines = run(path, "--configs", CONFIGS, "--all")
    assert code == 1 and sum("backoff-per-index: " in line for line in lines) == 27
    assert f"{path}: Job/vit-base-ucm" in lines


def test_warnings_fail_with_strict_alone(write: Write):
    path = write("resnet50_ucm", backoffLimit=0)
    assert run(path, "--configs", CONFIGS)[0] == 0
    assert run(path, "--configs", CONFIGS, "--strict")[0] == 1


def test_json_holds_every_violation_in_full(write: Write):
    path = write("resnet50_ucm", "vit_base_aid", backoffLimit=0)
    code, lines = run(path, "--configs", CONFIGS, "--json")
    body = json.loads("\n".join(lines))
    assert code == 0 and (body["objects"], body["errors"], body["warnings"]) == (4, 0, 2)
    assert [violation["object"] for violation in body["violations"]] == [
        "Job/resnet50-ucm",
        "Job/vit-base-aid",
    ]
    assert body["violations"][0] == {
        "source": str(path),
        "object": "Job/resnet50-ucm",
        "field": "spec.backoffLimit",
        "rule": "backoff-zero",
        "severity": "warning",
        "problem": "is 0, so that one lost node fails the Job",
        "remedy": "write 3 or more",
    }


def test_a_long_line_is_not_broken_when_piped(write: Write):
    path = write("resnet50_ucm", podFailurePolicy={"rules": []})
    _, lines = run(path, "--configs", CONFIGS)
    assert max(map(len, lines)) > 120


def test_the_environment_of_the_user_is_not_that_of_the_job(
    write: Write, monkeypatch: pytest.MonkeyPatch
):
    # Such a folder would make a config invalid; the Job has one of its own.
    monkeypatch.setenv("RSDL_RUNS", "")
    monkeypatch.setenv("RSDL_DATA", "https://nowhere")
    assert run(write("resnet50_ucm"), "--configs", CONFIGS)[0] == 0
    assert os.environ["RSDL_DATA"] == "https://nowhere"


def test_configs_that_are_not_here_are_not_called_missing(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    code, lines = run(write("resnet50_ucm"))
    assert code == 0 and "config-unchecked" in lines[1] and "pass --configs" in lines[1]
    with pytest.raises(ConfigError, match="--configs: absent is no folder"):
        check(["jobs.yaml"], profile="nautilus", configs="absent")
    assert run("jobs.yaml", "--profile", "none") == (
        0,
        ["3 objects: 0 errors, 0 warnings, 0 notes"],
    )


def test_busy_gpus_are_known_from_records_alone(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path, runs = write("resnet50_ucm", "vit_base_aid"), tmp_path / "runs"
    for name, use in (("resnet50_ucm", 0.31), ("vit_base_aid", 0.93), ("other", None)):
        write_record(str(runs), name, gpu_utilization=use)
    code, lines = run(path, "--configs", CONFIGS, "--benchmark", runs)
    assert code == 0 and len(lines) == 3
    assert "warning gpu-use: " in lines[1] and "resnet50_ucm kept its GPUs 31% busy" in lines[1]
    assert read_gpu_use(str(runs / "vit_base_aid")) == {"vit_base_aid": 0.93}
    assert read_gpu_use(str(runs / "vit_base_aid" / "run.json")) == {"vit_base_aid": 0.93}
    monkeypatch.chdir(runs / "vit_base_aid")
    assert read_gpu_use("run.json") == {"vit_base_aid": 0.93}
    with pytest.raises(ConfigError, match=r"no record in .* says how busy GPUs were"):
        read_gpu_use(str(runs / "other"))
    (runs / "other" / "run.json").write_text("[]")
    with pytest.raises(DataError, match=r"run\.json: is not a run record of format 1"):
        read_gpu_use(str(runs))


def test_what_is_piped_in_is_checked(write: Write, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(write("resnet50_ucm").read_text()))
    assert [len(manifests) for manifests in load_sets("-")] == [3]


def test_each_kustomize_folder_below_is_a_set_of_its_own(
    tmp_path: Path, require: Callable[[str, bool], None]
):
    require("kubectl", bool(shutil.which("kubectl") or shutil.which("kustomize")))
    for name in ("a", "b", "part"):
        (tmp_path / name).mkdir()
        kind = "Component" if name == "part" else "Kustomization"
        version = "v1alpha1" if name == "part" else "v1beta1"
        text = f"apiVersion: kustomize.config.k8s.io/{version}\nkind: {kind}\n"
        more = "resources: [job.yaml]\ncomponents: [../part]\n"
        more = "namePrefix: my-\n" if name == "part" else more
        (tmp_path / name / "kustomization.yaml").write_text(text + more)
        body = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "same"}}
        (tmp_path / name / "job.yaml").write_text(yaml.safe_dump(body))
    sets = list(load_sets(str(tmp_path)))
    assert [[m.source for m in manifests] for manifests in sets] == [
        [str(tmp_path / "a")],
        [str(tmp_path / "b")],
    ]
    for name in ("a", "b"):
        shutil.rmtree(tmp_path / name)
    with pytest.raises(ConfigError, match="holds components alone"):
        list(load_sets(str(tmp_path)))


def test_all_rules_are_listed(capsys: pytest.CaptureFixture[str]):
    code, lines = run("--rules")
    listed = [line.split()[0] for line in lines if line.startswith("  ")]
    assert code == 0
    offline = [rule.id for group in PROFILES["nautilus"] for rule in group.rules]
    assert listed == [*offline, *(name for name, _, _ in RULES)]
    assert max(map(len, lines)) <= 120


def test_nothing_to_check_is_refused():
    result = CliRunner().invoke(app, ["k8s", "check"])
    assert isinstance(result.exception, ConfigError)
    assert "DIR|FILE: is required" in str(result.exception)
