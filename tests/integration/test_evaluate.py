"""Evaluation, reports and the data commands, as processes."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from rsdl.commands.evaluate import read_config
from rsdl.data.datamodule import load_rule
from rsdl.data.dataset import DataSet, eval_plan
from rsdl.data.loader import BatchLoader
from rsdl.data.plan import Share
from rsdl.storage.connect import connect
from rsdl.train.build import build_module
from rsdl.train.run_folder import RunFolder

if TYPE_CHECKING:
    from tests.integration.conftest import Ended, Find, Rsdl, Write

pytestmark = pytest.mark.slow


def refusal(ended: "Ended", code: int = 2) -> str:
    """Check that a command refused with one line and without a traceback; return the line."""
    assert ended.returncode == code, ended
    lines = [line for line in ended.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, lines
    return str(lines[0])


def predict_by_hand(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return targets and probabilities of the test split, averaged over the square's symmetries."""
    config = read_config(RunFolder(connect(str(folder))))
    dataset = DataSet(config.data)
    data = dataset.split("test", "test")
    module = build_module(config, dataset)
    content = torch.load(folder / "checkpoints/best.ckpt", weights_only=True)
    module.load_state_dict(content["state_dict"])
    module.eval()
    rule = load_rule(config.data, training=False, pin_memory=False, processes=1)
    targets, probabilities = [], []
    with torch.no_grad():
        for batch in BatchLoader(data, eval_plan(config.data, data), Share(), rule):
            images, _ = module.augment(batch, training=False)
            views = []
            for turns in range(4):
                turned = torch.rot90(images, turns, (2, 3))
                views += [module(turned).softmax(1), module(turned.flip(3)).softmax(1)]
            targets.append(batch.targets[batch.valid].numpy())
            probabilities.append(torch.stack(views).mean(0)[batch.valid].numpy())
    return np.concatenate(targets), np.concatenate(probabilities)


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

    # --tta is the mean over the 8 symmetries.
    assert rsdl("evaluate", run.folder, "--tta").returncode == 0
    report = json.loads((run.folder / "report-tta.json").read_text())
    targets, probabilities = predict_by_hand(run.folder)
    assert report["tta"] and report["num_samples"] == len(targets)
    assert report["metrics"]["oa"] == np.mean(probabilities.argmax(1) == targets)
    loss = -np.log(probabilities[np.arange(len(targets)), targets]).mean()
    assert report["metrics"]["loss"] == pytest.approx(loss, rel=1e-4)
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


def test_a_source_image_that_cannot_be_read_is_one_line_and_nothing_is_left(
    rsdl: "Rsdl", image_tree: Path, tmp_path: Path
):
    damages = {
        "field_00.jpg": b"",
        "harbor_01.jpg": (image_tree / "harbor/harbor_01.jpg").read_bytes()[:300],
    }
    for name, content in damages.items():
        path = image_tree / name.partition("_")[0] / name
        whole = path.read_bytes()
        path.write_bytes(content)
        out = tmp_path / f"out-{name}"
        line = refusal(rsdl("data", "pack", "folder", image_tree, "--out", out))
        assert name in line
        assert not (out / "manifest.json").exists()
        assert not [found for found in out.rglob("*") if ".part-" in found.name]
        path.write_bytes(whole)
    assert rsdl("data", "pack", "folder", image_tree, "--out", tmp_path / "out").returncode == 0
    assert "is a file" in refusal(
        rsdl("data", "pack", "folder", image_tree, "--out", image_tree / "field/field_00.jpg")
    )


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
    assert run_at(tmp_path / "runs/wide").record["image_size"] == size
    again = rsdl("train", config, "trainer.accelerator=cpu")
    assert "done" in again.stdout or "complete" in again.stdout, again

    # Four views, since a quarter turn has another shape.
    for options in ([], ["--tta"]):
        assert rsdl("evaluate", tmp_path / "runs/wide", *options).returncode == 0
    assert "32 x 48 px" in (tmp_path / "runs/wide/report.html").read_text()
