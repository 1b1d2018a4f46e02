"""Cross-validation for real: folds of a tiny set are trained, resumed, evaluated and compared."""

import csv
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.integration.conftest import refusal

if TYPE_CHECKING:
    from tests.integration.conftest import Compare, Find, Rsdl, Write

pytestmark = pytest.mark.slow


def test_each_fold_is_a_run_that_is_validated_on_its_own_part(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find"
):
    config = write_config("run")
    keys = []
    for fold, held in (("1/2", 14), ("2/2", 13)):
        ended = rsdl("train", config, "--fold", fold)
        assert (ended.returncode, ended.stderr) == (0, "")
        told = f"fold {fold} of 27 images, each its own group: {27 - held} to train, {held} to"
        assert told in ended.stdout
        run = run_at(f"run-fold{fold[0]}of2")
        assert run.record["fold"] == fold and run.record["status"] == "completed"
        assert {"best", "test"} <= run.record["metrics"].keys()
        assert all(entry["balanced"] for entry in run.record["ledger"])
        assert [entry["planned"] for entry in run.record["ledger"]] == [(27 - held) // 4 * 4] * 3
        stored = yaml.safe_load((run.folder / "config.yaml").read_text())
        assert (stored["name"], stored["data"]["fold"]) == (run.folder.name, fold)
        assert fold in (run.folder / "report.html").read_text()
        assert "is completed" in rsdl("train", config, f"data.fold={fold}").stdout
        validated = rsdl("evaluate", run.folder, "--split", "val")
        assert f"val, {held} images" in validated.stdout, validated
        keys.append(held)
    assert sum(keys) == 27
    assert "data.fold: must be K/N" in refusal(rsdl("train", config, "--fold", "3/2"))


def test_a_fold_that_is_killed_ends_as_one_that_is_not(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find", compare_runs: "Compare"
):
    fields = {"checkpoint__every_minutes": 1e-4}
    once, twice = (write_config(name, **fields) for name in ("once", "twice"))
    assert rsdl("train", once, "--fold", "2/3").returncode == 0
    assert rsdl("train", twice, "--fold", "2/3", die=90).returncode == -9
    ended = rsdl("train", twice, "--fold", "2/3")
    assert ended.returncode == 0 and "resuming" in ended.stdout
    compare_runs(run_at("once-fold2of3"), run_at("twice-fold2of3"))


def test_a_sweep_over_folds_compares_architectures_fold_by_fold(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find"
):
    configs = [
        write_config(name, model__name=name, trainer__max_epochs=1)
        for name in ("test_resnet", "test_vit")
    ]
    ended = rsdl("sweep", "local", *configs, "--folds", "2", "--devices", "2")
    assert ended.returncode == 0, ended
    folder = run_at("test_resnet-fold1of2").folder.parent
    with (folder / "study.csv").open() as stream:
        rows = {row["run"]: row for row in csv.DictReader(stream)}
    assert {name: (row["fold"], row["seeds"]) for name, row in rows.items()} == {
        f"{name}-fold{number}of2": (f"{number}/2", "2")
        for name in ("test_resnet", "test_vit")
        for number in (1, 2)
    }
    again = rsdl("sweep", "local", *configs, "--folds", "2", "--dry-run")
    assert "4 runs: 4 completed" in again.stdout
