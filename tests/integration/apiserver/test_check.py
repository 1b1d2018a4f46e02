"""``rsdl k8s check --server``: a real API server's word on manifests, by a dry run."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from rsdl.cli import app
from rsdl.cluster.load import entry_points
from rsdl.core.errors import ClusterError, UnreachableClusterError
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


def test_rules_here_and_there_agree_on_the_field(space: Space, tmp_path: Path):
    """What is refused there is found here, too, where there are rules for it."""
    broken = {
        "spec.template.spec.restartPolicy": lambda b: pod(b).update(restartPolicy="Always"),
        "spec.template.spec.containers[0].image": lambda b: box(b).pop("image"),
        "spec.template.spec.containers[0].volumeMounts[0].name": lambda b: box(b).update(
            volumeMounts=[{"name": "data", "mountPath": "/data"}]
        ),
    }
    for field, spoil in broken.items():
        body = job("cnn_ucm")
        spoil(body)
        path = tmp_path / "job.yaml"
        path.write_text(yaml.safe_dump(body))
        code, page = check(path, "--profile", "none")
        there = {v["field"] for v in page["violations"] if v["rule"] == "server"}
        here = {v["field"] for v in page["violations"] if v["rule"] != "server"}
        assert code == 1 and field in there and field in here, page


def pod(body: dict[str, Any]) -> dict[str, Any]:
    inner: dict[str, Any] = body["spec"]["template"]["spec"]
    return inner


def box(body: dict[str, Any]) -> dict[str, Any]:
    first: dict[str, Any] = pod(body)["containers"][0]
    return first


@pytest.mark.parametrize(
    ("text", "kind", "code", "words"),
    [
        ("server: https://127.0.0.1:9", UnreachableClusterError, 69, "the cluster does not answer"),
        ("token: nobody", ClusterError, 2, "the cluster does not know you"),
        ("current-context: other", ClusterError, 2, "no such context"),
    ],
)  # fmt: skip
def test_who_cannot_ask_is_told_once(
    text: str, kind: type[ClusterError], code: int, words: str, space: Space, tmp_path: Path
):
    path = tmp_path / "kubeconfig"
    key = text.partition(":")[0]
    lines = path.read_text().splitlines()
    changed = [line.partition(f"{key}:")[0] + text if f"{key}:" in line else line for line in lines]
    path.write_text("\n".join(changed))
    body = tmp_path / "job.yaml"
    body.write_text(yaml.safe_dump(job("cnn_ucm")))
    result = CliRunner().invoke(app, ["k8s", "check", str(body), "--server", "--profile", "none"])
    error = result.exception
    assert type(error) is kind and error.exit_code == code and words in str(error)
    # What the rules here say has been said all the same.
    assert "1 object: 0 errors" in result.stdout and "\n" not in str(error)
