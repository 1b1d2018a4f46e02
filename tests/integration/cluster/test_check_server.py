"""``rsdl k8s check --server``, through the real kubectl; a real API server has tests of its own."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from rsdl.cli import app
from rsdl.core.errors import ClusterError, UnreachableClusterError
from tests.integration.cluster.apiserver import ApiServer, failure
from tests.integration.cluster.conftest import job
from tests.integration.cluster.world import Object


@pytest.fixture
def manifest(api: ApiServer, tmp_path: Path) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(job("cnn_ucm")))
    return path


def check(path: Path) -> Result:
    arguments = ["k8s", "check", str(path), "--server", "--profile", "none", "--json"]
    return CliRunner().invoke(app, arguments)


def violations(path: Path) -> list[dict[str, Any]]:
    result = check(path)
    assert result.exit_code == 1, result.exception
    found: list[dict[str, Any]] = json.loads(result.stdout)["violations"]
    return found


def test_what_the_cluster_says_has_the_form_of_a_rule(api: ApiServer, manifest: Path):
    def refuse(method: str, path: str) -> tuple[int, Object] | None:
        if method not in ("POST", "PATCH"):
            return None
        cause = {
            "reason": "FieldValueInvalid",
            "message": "Invalid value: 1: no",
            "field": "spec.x",
        }
        body = failure(
            422, "Invalid", 'Job.batch "cnn-ucm" is invalid: spec.x: Invalid value: 1: no'
        )
        details = {"name": "cnn-ucm", "group": "batch", "kind": "Job", "causes": [cause]}
        return 422, body | {"details": details}

    api.spoil = refuse
    (found,) = violations(manifest)
    assert (found["rule"], found["severity"], found["field"]) == ("server", "error", "spec.x")
    assert found["object"] == "Job/cnn-ucm" and found["problem"] == "Invalid value: 1: no"


def test_a_quota_is_a_finding_and_a_server_that_is_busy_is_none(api: ApiServer, manifest: Path):
    text = 'jobs.batch "cnn-ucm" is forbidden: exceeded quota: q'
    api.spoil = lambda m, p: (403, failure(403, "Forbidden", text)) if m == "POST" else None
    (found,) = violations(manifest)
    assert found["problem"].startswith("a quota is used up")
    busy = failure(503, "ServiceUnavailable", "apiserver not ready")
    api.spoil = lambda m, p: (503, busy) if m == "POST" else None
    result = check(manifest)
    assert isinstance(result.exception, UnreachableClusterError)
    assert result.exception.exit_code == 69


def test_without_a_cluster_the_rules_have_been_told_all_the_same(
    api: ApiServer, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = tmp_path / "kubeconfig"
    config.write_text(config.read_text().replace(api.url, "http://127.0.0.1:9"))
    result = check(manifest)
    assert isinstance(result.exception, UnreachableClusterError)
    assert result.exception.exit_code == 69 and "does not answer" in str(result.exception)
    assert json.loads(result.stdout)["objects"] == 1
    monkeypatch.setenv("PATH", str(tmp_path))
    result = check(manifest)
    assert isinstance(result.exception, ClusterError) and result.exception.exit_code == 2
    assert "is not on PATH" in str(result.exception)
