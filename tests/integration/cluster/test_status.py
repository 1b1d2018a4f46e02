"""``rsdl sweep status``: from the cluster, from the records, and from both."""

import io
import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rsdl.commands.sweep.scope import JobSelector
from rsdl.commands.sweep.status import status
from rsdl.commands.sweep.submission import SubmitOptions
from rsdl.commands.sweep.submit import submit
from rsdl.core.errors import ClusterError, ConfigError, UnreachableClusterError
from tests.integration.cluster.apiserver import ApiServer
from tests.integration.cluster.conftest import write_record, write_study
from tests.integration.cluster.world import World
from tests.integration.conftest import Rsdl

LONG_AGO = (datetime.now(UTC) - timedelta(hours=3)).isoformat(timespec="seconds")


def show(capsys: pytest.CaptureFixture[str], *arguments: Any, **view: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return the runs of ``--json`` by name."""
    capsys.readouterr()
    assert status(*arguments, as_json=True, **view) == 0
    page = json.loads(capsys.readouterr().out)
    return {row["run"]: row for row in page["runs"]}


def test_cluster_and_records_are_one_table(
    api: ApiServer, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    study = write_study(tmp_path / "k8s")  # where the command is run: it knows all six
    runs = str(tmp_path / "runs")
    world.fates = {
        "cnn-aid": ["preempt", "hang"], "cnn-ucm": ["wrong"], "swin-aid": ["pend"],
        "swin-ucm": ["hang"], "vit-aid": ["preempt", "pend"],
    }  # fmt: skip
    submit(JobSelector(str(study)), SubmitOptions(5, every_s=0, wait=False))
    half = {"epochs_completed": 150, "wall_s": 5400.0, "device_s": 5400.0, "gpu_utilization": 0.5}
    write_record(runs, "cnn_aid", "running", preemptions=1, updated_at=LONG_AGO, **half,
                 metrics={"best": {"oa": 0.9174}})  # fmt: skip
    write_record(runs, "vit_ucm", metrics={"best": {"oa": 0.95}}, wall_s=7200.0, device_s=7200.0,
                 gpu_utilization=0.8)  # fmt: skip
    world.go_on(8)
    rows = show(capsys, runs, JobSelector())
    states = {name: (row["cluster"], row["status"]) for name, row in rows.items()}
    assert states == {
        "cnn_aid": ("running", "running"),  # its pod runs: it is silent, but not stale
        "cnn_ucm": ("failed", "none"),
        "swin_aid": ("pending", "none"),
        "swin_ucm": ("running", "none"),
        "vit_aid": ("restarting", "none"),
        "vit_ucm": ("absent", "completed"),
    }
    assert rows["cnn_aid"]["eta_s"] == 5400.0 and rows["cnn_aid"]["oa"] == 0.9174
    assert "Insufficient nvidia.com/gpu" in rows["swin_aid"]["note"]
    assert "preempted (PreemptionByScheduler); unschedulable" in rows["vit_aid"]["note"]
    assert rows["vit_aid"]["preemptions"] == 1 and "data.url" in rows["cnn_ucm"]["note"]
    assert status(runs, JobSelector()) == 0
    lines = capsys.readouterr().out.splitlines()
    headings = "run cluster record epoch left OA(val) preempted GPU"
    assert lines[0].split() == headings.split()
    first = "cnn_aid running running 150/300 1h30min 91.74% 1 50%"
    assert lines[1].split() == first.split()
    assert lines[7].split() == ["all", "450/600", "1h30min", "93.37%", "2", "67%"]
    assert lines[8] == (
        "6 runs: 1 completed, 1 failed, 1 pending, 1 restarting, 2 running; 3.5 device-hours so far"
    )
    assert all(len(line) <= 100 and line.isascii() for line in lines[:9])


def test_the_cluster_alone_is_enough(
    api: ApiServer, world: World, study: Path, capsys: pytest.CaptureFixture[str]
):
    submit(JobSelector(str(study)), SubmitOptions(2, every_s=0, wait=False))
    rows = show(capsys, None, JobSelector())
    assert {name: row["cluster"] for name, row in rows.items()} == {
        "cnn_aid": "pending", "cnn_ucm": "pending",
    }  # fmt: skip


def test_records_alone_are_enough_without_kubectl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("PATH", str(tmp_path))
    runs = str(tmp_path / "runs")
    write_record(runs, "cnn_ucm", "running")
    write_record(runs, "vit_ucm", "running", updated_at=LONG_AGO)
    write_record(runs, "swin_ucm", "failed", reason="the loss is not finite")
    (tmp_path / "runs" / "bad").mkdir()
    (tmp_path / "runs" / "bad" / "run.json").write_text("{")
    rows = show(capsys, runs, JobSelector())
    assert {name: row["status"] for name, row in rows.items()} == {
        "bad": "broken", "cnn_ucm": "running", "swin_ucm": "failed", "vit_ucm": "stale",
    }  # fmt: skip
    assert "last written 3 h" in rows["vit_ucm"]["note"]
    assert rows["swin_ucm"]["note"] == "the loss is not finite"
    assert {row["cluster"] for row in rows.values()} == {"unknown"}
    monkeypatch.setenv("RSDL_RUNS", runs)
    assert status(None, JobSelector()) == 0
    said = capsys.readouterr()
    assert "without the cluster: kubectl: is not on PATH; install it" in said.err
    assert "stale" in said.out
    with pytest.raises(ClusterError, match="is not on PATH"):
        status(runs, JobSelector(namespace="mine"))


def test_a_run_whose_pod_is_gone_is_stale(
    api: ApiServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    runs = str(tmp_path / "runs")
    write_record(runs, "cnn_ucm", "running", updated_at=LONG_AGO)
    row = show(capsys, runs, JobSelector())["cnn_ucm"]
    assert (row["cluster"], row["status"]) == ("absent", "stale")


def test_neither_is_too_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match=r"is not on PATH; .*or name RUNS_URL, or set RSDL_RUNS"):
        status(None, JobSelector())


@pytest.mark.parametrize(
    ("config", "kind", "words"),
    [
        ("", ClusterError, "no cluster is configured; put the cluster's config at"),
        ("current-context: nope", ClusterError, "no such context; choose one"),
        ("x: [", ClusterError, "its config cannot be read"),
        ("server: http://127.0.0.1:9", UnreachableClusterError, "does not answer.*9 was refused"),
        ("server: http://no-such-host.invalid", UnreachableClusterError, "no such host"),
        ("server: https://HERE", ClusterError, "no https at its address: .*; mend the file"),
    ],
)  # fmt: skip
def test_a_cluster_that_cannot_be_asked_is_one_line(
    config: str, kind: type[Exception], words: str, api: ApiServer, tmp_path: Path
):
    path = tmp_path / "kubeconfig"
    text = path.read_text()
    if config.startswith("server: "):
        here = api.url.removeprefix("http://")
        config = text.replace(f"server: {api.url}", config.replace("HERE", here))
    path.write_text(config)
    with pytest.raises(ClusterError, match=words) as caught:
        status(None, JobSelector())
    assert "\n" not in str(caught.value) and "memcache" not in str(caught.value)
    assert type(caught.value) is kind


def test_several_studies_want_to_be_told_apart(
    api: ApiServer, world: World, study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    other = write_study(tmp_path / "other", ("mlp_ucm",), study="second")
    for folder in (study, other):
        submit(JobSelector(str(folder)), SubmitOptions(1, every_s=0, wait=False))
    with pytest.raises(ConfigError, match="holds the studies hrrsi, second; name one"):
        status(None, JobSelector())
    assert list(show(capsys, None, JobSelector(study="second"))) == ["mlp_ucm"]
    with pytest.raises(ConfigError, match=r"--study: is third, .* says second"):
        status(None, JobSelector(str(other), study="third"))


def test_watching_ends_with_the_study(
    api: ApiServer, world: World, study: Path, capsys: pytest.CaptureFixture[str]
):
    submit(JobSelector(str(study)), SubmitOptions(9, every_s=0, wait=False))
    assert status(None, JobSelector(), watch=True, every_s=0.01) == 0
    said = capsys.readouterr().out
    assert said.count("6 runs:") > 1 and "6 runs: 6 completed" in said.splitlines()[-1]
    with pytest.raises(ConfigError, match="--json: is given with --watch"):
        status(None, JobSelector(), watch=True, as_json=True)


def test_a_terminal_gets_colours_within_100_columns(tmp_path: Path):
    from rsdl.commands.runs import read_runs
    from rsdl.commands.sweep.rows import make_rows
    from rsdl.commands.sweep.table import print_table

    runs = str(tmp_path)
    write_record(runs, "efficientnet_b5_resisc45", "preempted", epochs_completed=299, wall_s=9e6,
                 preemptions=1234, gpu_utilization=1.0, metrics={"best": {"oa": 1.0}})  # fmt: skip
    rows = make_rows({}, None, read_runs(runs), datetime.now(UTC))
    page = io.StringIO()
    print_table(rows, Console(file=page, force_terminal=True, width=100, color_system="standard"))
    assert "\x1b[33mpreempted" in page.getvalue()
    plain = io.StringIO()
    print_table(rows, Console(file=plain, force_terminal=True, width=100, no_color=True))
    assert "efficientnet_b5_resisc45" in plain.getvalue() and "…" not in plain.getvalue()


def test_the_command_prints_it(rsdl: Rsdl, api: ApiServer, study: Path):
    env = {name: os.environ[name] for name in ("KUBECONFIG", "KUBECACHEDIR")}
    assert rsdl("sweep", "submit", study, "--no-wait", env=env).returncode == 0
    ended = rsdl("sweep", "status", "--json", env=env)
    assert ended.returncode == 0 and len(json.loads(ended.stdout)["runs"]) == 6
    ended = rsdl("sweep", "status", env=env | {"KUBECONFIG": "/nowhere"})
    assert ended.returncode == 2 and len(ended.stderr.splitlines()) == 1
    assert "no cluster is configured" in ended.stderr and shutil.which("kubectl")
