"""``rsdl sweep collect``: models and records in one folder, whole and checked."""

import csv
import hashlib
import json
from pathlib import Path

import pytest

from rsdl.commands.sweep.collect import collect
from rsdl.core.errors import ConfigError, DataError
from tests.integration.cluster.conftest import write_record, write_study
from tests.integration.conftest import Rsdl, Write


def write_run(runs: Path, config: str, status: str = "completed", model: bytes = b"model") -> Path:
    folder = runs / config
    write_record(str(runs), config, status, metrics={"best": {"epoch": 7, "oa": 0.9, "kappa": 0.8}})
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "checkpoints" / "best.ckpt").write_bytes(model * 1000)
    (folder / "checkpoints" / "last.ckpt").write_bytes(b"last")
    for name in (
        "config.yaml",
        "metrics.csv",
        "model.json",
        "report.html",
        "report.json",
        "events.out.1",
    ):
        (folder / name).write_text(f"{name} of {config}")
    return folder


def listing(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_models_and_records_come_with_checksums(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    runs, out = tmp_path / "runs", tmp_path / "out"
    for config in ("cnn_ucm", "vit_ucm"):
        write_run(runs, config, model=config.encode())
    assert collect(str(runs), str(out)) == 0
    names = ("checkpoints/best.ckpt", "config.yaml", "metrics.csv", "model.json", "report.html",
             "report.json", "run.json")  # fmt: skip
    files = [f"{config}/{name}" for config in ("cnn_ucm", "vit_ucm") for name in names]
    assert listing(out) == sorted([*files, "models.csv", "models.json"])
    for name in files:
        assert (out / name).read_bytes() == (runs / name).read_bytes()
    index = json.loads((out / "models.json").read_text())
    for name in files:
        run, _, file = name.partition("/")
        kept = index["runs"][run]["files"][file]
        assert kept["sha256"] == hashlib.sha256((out / name).read_bytes()).hexdigest()
        assert kept["size"] == (out / name).stat().st_size
    with (out / "models.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["run"], row["val_oa"], row["best_epoch"]) for row in rows] == [
        ("cnn_ucm", "0.9", "7"), ("vit_ucm", "0.9", "7"),
    ]  # fmt: skip
    assert rows[0]["sha256"] == hashlib.sha256(b"cnn_ucm" * 1000).hexdigest()
    assert "2 models with their records; 14 of 14 files" in capsys.readouterr().out


def test_a_record_without_newer_fields_keeps_its_digest(tmp_path: Path):
    runs, out = tmp_path / "runs", tmp_path / "out"
    record = write_run(runs, "cnn_ucm") / "run.json"
    fields = json.loads(record.read_text())
    del fields["task"]  # as before it was added, so that no model is fetched again for it
    text = json.dumps(fields, separators=(",", ":"))
    record.write_text(text)
    assert collect(str(runs), str(out)) == 0
    index = json.loads((out / "models.json").read_text())
    assert index["runs"]["cnn_ucm"]["record"] == hashlib.sha256(text.encode()).hexdigest()


def test_what_is_there_and_unchanged_stays_and_what_is_not_is_fetched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    runs, out = tmp_path / "runs", tmp_path / "out"
    for config in ("cnn_ucm", "vit_ucm", "swin_ucm"):
        write_run(runs, config)
    assert collect(str(runs), str(out)) == 0
    model = out / "cnn_ucm" / "checkpoints" / "best.ckpt"
    untouched = model.stat().st_mtime_ns
    damaged = out / "vit_ucm" / "checkpoints" / "best.ckpt"
    damaged.write_bytes(b"MODEL" * 1000)  # of the same size
    write_run(runs, "swin_ucm", model=b"other")  # of the same size, too
    write_record(str(runs), "swin_ucm", resumes=1)
    assert collect(str(runs), str(out), dry_run=True) == 0
    said = capsys.readouterr().out
    assert (
        "cnn_ucm/checkpoints" not in said and "vit_ucm/checkpoints/best.ckpt: 5,000 bytes" in said
    )
    assert damaged.read_bytes() == b"MODEL" * 1000
    assert collect(str(runs), str(out)) == 0
    assert model.stat().st_mtime_ns == untouched
    assert damaged.read_bytes() == b"model" * 1000
    assert (out / "swin_ucm" / "checkpoints" / "best.ckpt").read_bytes() == b"other" * 1000


def test_what_is_incomplete_is_named_and_fails_unless_it_is_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    runs, out = tmp_path / "runs", tmp_path / "out"
    write_run(runs, "cnn_ucm")
    write_run(runs, "vit_ucm", "running")
    (write_run(runs, "swin_ucm") / "checkpoints" / "best.ckpt").unlink()
    assert collect(str(runs), str(out)) == 1
    said = capsys.readouterr().out
    assert "vit_ucm: is running, 0 of 300 epochs" in said
    assert "swin_ucm: lacks checkpoints/best.ckpt" in said and "1 models" in said
    assert not (out / "vit_ucm").exists()
    assert collect(str(runs), str(out), partial=True) == 0
    assert (out / "vit_ucm" / "checkpoints" / "best.ckpt").exists()


def test_manifests_say_which_runs_there_must_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    study = write_study(tmp_path / "study", ("cnn_ucm", "vit_ucm"))
    (study / "kustomization.yaml").unlink()  # so that nothing but YAML is needed
    runs = tmp_path / "runs"
    write_run(runs, "cnn_ucm")
    assert collect(str(runs), str(tmp_path / "out"), manifests=str(study)) == 1
    assert "vit_ucm: there is no such run yet" in capsys.readouterr().out


def test_a_folder_of_another_study_is_not_mixed_in(tmp_path: Path):
    write_run(tmp_path / "a", "cnn_ucm")
    write_run(tmp_path / "b", "cnn_ucm")
    assert collect(str(tmp_path / "a"), str(tmp_path / "out")) == 0
    with pytest.raises(DataError, match=r"is of .*a, not of .*b; choose another --out"):
        collect(str(tmp_path / "b"), str(tmp_path / "out"))
    with pytest.raises(ConfigError, match="which is no local folder"):
        collect(str(tmp_path / "b"), "s3://bucket/x")


def test_a_trained_run_is_gathered_and_its_model_still_loads(
    rsdl: Rsdl, write_config: Write, tmp_path: Path
):
    assert rsdl("train", write_config("tiny", trainer__max_epochs=1)).returncode == 0
    ended = rsdl("sweep", "status", "runs", env={"PATH": "/nowhere"})
    assert ended.returncode == 0 and "tiny  -        completed    1/1" in ended.stdout
    ended = rsdl("sweep", "collect", "runs", "--out", "gathered")
    assert ended.returncode == 0, ended.stderr
    ended = rsdl("evaluate", "gathered/tiny/checkpoints/best.ckpt")
    assert ended.returncode == 0, ended.stderr
