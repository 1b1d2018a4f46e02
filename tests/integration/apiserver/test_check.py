"""``rsdl k8s check --server``: a real API server's word on manifests, by a dry run."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from rsdl.cli import app
from rsdl.cluster.load import entry_points
from tests.integration.apiserver.conftest import CONFIGS, kubectl
from tests.integration.apiserver.plane import Space
from tests.integration.cluster.conftest import job

pytestmark = pytest.mark.apiserver


def check(*arguments: object) -> tuple[int, dict[str, Any]]:
    """Return exit code and what ``--json`` says."""
    words = ["k8s", "check", *map(str, arguments), "--server", "--json", "--configs", CONFIGS]
    result = CliRunner().invoke(app, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    page: dict[str, Any] = json.loads(result.stdout)
    return result.exit_code, page


def found(page: dict[str, Any], rule: str) -> set[tuple[str, str]]:
    """Return object and field of each violation of a rule."""
    return {(v["object"], v["field"]) for v in page["violations"] if v["rule"] == rule}


def test_all_that_is_applied_by_itself_is_asked_for(space: Space, rendered: Path):
    names = {str(Path(path).relative_to(rendered)) for path in entry_points(str(rendered))}
    assert names == {".", "base/volumes", "data", "dev", "indexed", "jobs/quickstart"}
    assert entry_points(str(rendered / "base")) == [
        str(rendered / "base"),
        f"{rendered}/base/volumes",
    ]
    kubectl("apply", "-k", rendered / "base")
    before = space.names("batch/jobs"), space.names("v1/configmaps"), space.names("v1/pods")
    code, page = check(rendered)
    # An old cluster: what a Job can do without is a warning, what makes it another one an error.
    assert code == 1
    fields = ("backoffLimitPerIndex", "completionMode", "podFailurePolicy", "podReplacementPolicy")
    assert found(page, "server") == {
        (f"Job/hrrsi-{name}", f"spec.{field}") for name in ("data", "indexed") for field in fields
    }
    assert len(found(page, "server-drops")) == 2 * 28
    assert page["objects"] == (2 + 54) + 2 + 1 + 1 + 2 + 2
    after = space.names("batch/jobs"), space.names("v1/configmaps"), space.names("v1/pods")
    assert after == before, "a dry run has changed something"


def test_what_the_server_alone_knows_is_said(space: Space, rendered: Path):
    # The account of its pods is not there yet, and somebody has used up the quota of Jobs.
    quota = {"metadata": {"name": "jobs"}, "spec": {"hard": {"count/jobs.batch": "0"}}}
    space("POST", "v1/resourcequotas", quota)
    code, page = check(rendered / "dev", rendered / "jobs" / "quickstart")
    said = {v["object"]: v["problem"] for v in page["violations"] if v["rule"] == "server"}
    assert code == 1 and set(said) == {"Pod/hrrsi-dev", "Job/hrrsi-quickstart"}
    assert "what it runs as is not there" in said["Pod/hrrsi-dev"]
    assert "a quota is used up" in said["Job/hrrsi-quickstart"]
    assert "count/jobs.batch" in said["Job/hrrsi-quickstart"]


def test_a_namespace_of_others_is_not_mine(space: Space, tmp_path: Path):
    body = job("cnn_ucm")
    body["metadata"]["namespace"] = "kube-system"
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(body))
    code, page = check(path, "--profile", "none")
    (violation,) = [v for v in page["violations"] if v["rule"] == "server"]
    assert code == 1 and violation["problem"].startswith("you may not do this: jobs.batch")


def test_a_job_that_is_there_and_otherwise_is_told_of(space: Space, tmp_path: Path):
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(job("cnn_ucm")))
    kubectl("apply", "-f", path)
    assert check(path, "--profile", "none")[0] == 0
    path.write_text(yaml.safe_dump(job("cnn_ucm", memory="9Gi")))
    _, page = check(path, "--profile", "none")
    (violation,) = [v for v in page["violations"] if v["rule"] == "server"]
    assert violation["field"] == "spec.template" and "immutable" in violation["problem"]
    assert violation["remedy"].startswith("it is there already") and len(violation["problem"]) < 99
