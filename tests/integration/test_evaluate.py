"""Evaluation, reports and the data commands, as processes."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.conftest import refusal

if TYPE_CHECKING:
    from tests.integration.conftest import Find, Rsdl, Write

pytestmark = pytest.mark.slow


def test_a_run_is_evaluated_compared_and_reported(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find", packed: str, tmp_path: Path
):
    for name in ("one", "two"):
        config = write_config(
            name, optim__ema_decay=0.8, model__drop_rate=0.2, trainer__max_epochs=2, optim__lr=5e-4
        )
        assert rsdl("train", config).returncode == 0
    run = run_at("one")
    trained = json.loads((run.folder / "report.json").read_text())
    assert trained["weights"] == "ema" and trained["split"] == "test" and not trained["tta"]

    # Evaluated again: the same numbers.
    ended = rsdl("evaluate", run.folder)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads((run.folder / "report.json").read_text()) == trained
    assert f"{trained['metrics']['oa']:.4f}" in ended.stdout

    # Another split and checkpoint, and data that has moved.
    moved = tmp_path / "moved"
    Path(packed).rename(moved)
    assert "no manifest" in refusal(rsdl("evaluate", run.folder))
    arguments = ["evaluate", run.folder / "checkpoints/last.ckpt", "--split", "val", "--tta"]
    assert rsdl(*arguments, "--data", moved).returncode == 0
    assert json.loads((run.folder / "report.json").read_text()) == trained
    report = json.loads((run.folder / "report-tta.json").read_text())
    assert report["split"] == "val" and report["checkpoint"] == "checkpoints/last.ckpt"
    moved.rename(packed)

    assert rsdl("evaluate", run.folder, "--tta").returncode == 0
    report = json.loads((run.folder / "report-tta.json").read_text())
    assert report["tta"] and report["num_samples"] == trained["num_samples"]
    assert report["metrics"]["loss"] != trained["metrics"]["loss"]

    # Reports: one run anew; several in one page.
    (run.folder / "report.html").unlink()
    assert rsdl("report", run.folder).returncode == 0
    assert (run.folder / "report.html").exists()
    assert rsdl("report", tmp_path / "runs", "--out", tmp_path / "both.html").returncode == 0
    page = (tmp_path / "both.html").read_text()
    assert "test_efficientnet" in page
    assert rsdl("report", run.folder, run_at("two").folder).returncode == 0
    assert (tmp_path / "comparison.html").exists()


def test_wrong_targets_are_one_line(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find", packed: str
):
    config = write_config("run", trainer__max_epochs=1, data__batch_size=18)
    assert rsdl("train", config).returncode == 0
    folder = run_at("run").folder
    assert "no such checkpoint" in refusal(rsdl("evaluate", folder / "checkpoints/x.ckpt"))
    assert "does not lie in a run" in refusal(rsdl("evaluate", "x.ckpt"))
    assert "is no run" in refusal(rsdl("evaluate", "nowhere"))
    assert "holds no run" in refusal(rsdl("report", "nowhere"))
    assert 'no split "dev"' in refusal(rsdl("evaluate", folder, "--split", "dev"))
    (folder / "checkpoints/best.ckpt").write_bytes(b"PK")
    assert "loaded safely" in refusal(rsdl("evaluate", folder))
    manifest = Path(packed) / "manifest.json"
    manifest.write_text(manifest.read_text().replace("harbor", "harbour"))
    assert "is not the data set" in refusal(rsdl("evaluate", folder))


def test_data_commands_show_and_check_a_data_set(rsdl: "Rsdl", packed: str, tmp_path: Path):
    ended = rsdl("data", "info", packed, "--sheet", tmp_path / "sheet.png")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "harbor" in ended.stdout and "18" in ended.stdout
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    assert rsdl("data", "verify", packed).returncode == 0
    ended = rsdl("data", "plan", packed, "--global-batch", 6, "--world-size", 2)
    keys = [line.split()[-1] for line in ended.stdout.splitlines() if "_0" in line or "_1" in line]
    assert ended.returncode == 0 and len(keys) == len(set(keys)) == 18
    ended = rsdl("data", "plan", packed, "--global-batch", 19)
    assert "--global-batch: 19 exceeds the 18 samples of train" in refusal(ended)
    shard = sorted(Path(packed).glob("val*.tar"))[0]
    shard.write_bytes(shard.read_bytes()[:1500])
    ended = rsdl("data", "verify", packed)
    assert ended.returncode == 1 and shard.name in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr


def test_missing_data_is_one_line_everywhere(rsdl: "Rsdl"):
    for command in (["info"], ["verify"], ["plan", "--global-batch", "4"]):
        assert "no manifest" in refusal(rsdl("data", command[0], "nowhere", *command[1:]))
    refusal(rsdl("data", "index", "nowhere"))
    refusal(rsdl("data", "pack", "folder", "nowhere", "--out", "out"))
    assert not Path("out").exists()


def test_images_need_not_be_square(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find", tmp_path: Path
):
    size = [32, 48]
    squares = write_config("turned", data__image_size=size)
    assert refusal(rsdl("train", squares)).startswith("augment.rotate90: turns height into")

    config = write_config(
        "wide", data__image_size=size, data__eval_crop="whole", augment__rotate90=False,
        augment__cutmix=1.0, model__name="test_vit", trainer__max_epochs=2,
    )  # fmt: skip
    assert rsdl("train", config).returncode == 0
    assert run_at("wide").record["image_size"] == size
    again = rsdl("train", config)
    assert "is completed" in again.stdout, again

    # Four views, since a quarter turn has another shape.
    for options in ([], ["--tta"]):
        assert rsdl("evaluate", tmp_path / "runs/wide", *options).returncode == 0
    assert "32 x 48 px" in (tmp_path / "runs/wide/report.html").read_text()
