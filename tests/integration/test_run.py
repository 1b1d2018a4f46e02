"""What a run writes, what it refuses, and what it makes of damage."""

import pickle
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml

from tests.integration.conftest import refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.conftest import Find, Rsdl, Write

pytestmark = pytest.mark.slow

FILES = [
    ".owner",
    "checkpoints/best.ckpt",
    "checkpoints/last.ckpt",
    "config.yaml",
    "events.out",
    "metrics.csv",
    "model.json",
    "report.html",
    "report.json",
    "run.json",
]


def test_a_run_writes_the_files_of_its_contract_and_nothing_else(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find"
):
    config = write_config("run")
    ended = rsdl("train", config)
    assert (ended.returncode, ended.stderr) == (0, "")
    run = run_at("run")
    assert run.names == FILES
    record = run.record
    assert record["status"] == "completed" and record["reason"] == ""
    assert record["epochs_completed"] == 3 and record["optimizer_steps"] == 12
    assert record["samples_read"] == 48  # 18 samples a epoch, of which 16 fill batches of 4
    assert record["bytes_decoded"] == 48 * 40 * 48 * 3
    assert 0 < record["bytes_encoded"] < record["bytes_decoded"]
    assert record["wall_s"] > 0 and record["device_count"] == 1
    assert {"final", "best", "test"} <= record["metrics"].keys()
    assert [entry["delivered"] for entry in record["ledger"]] == [16, 16, 16]
    assert [row["val_oa"] != "" for row in run.rows] == [False] * 4 + [True] + (
        [False] * 4 + [True]
    ) * 2
    assert [row["samples"] for row in run.rows if row["samples"]] == [
        str(4 * step) for step in range(1, 13)
    ]
    stored = yaml.safe_load((run.folder / "config.yaml").read_text())
    assert stored["name"] == "run" and stored["optim"]["lr"] == 2e-3
    page = (run.folder / "report.html").read_text()
    assert "completed" in page

    before = {name: (run.folder / name).stat().st_mtime_ns for name in FILES if "event" not in name}
    again = rsdl("train", config)
    assert again.returncode == 0 and "--restart" in again.stdout
    assert before == {name: (run.folder / name).stat().st_mtime_ns for name in before}

    last = run.load()
    assert last["rsdl"]["position"] == {"epoch": 3, "consumed": 0, "step": 12, "validate": True}
    assert rsdl("train", config, "--restart").returncode == 0
    assert run.names == FILES
    assert run.record["resumes"] == 0 and run.record["samples_read"] == 48


def test_another_config_is_refused_by_name_and_another_machine_is_not(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find", packed: str
):
    config = write_config("run", trainer__max_epochs=6)
    assert rsdl("train", config, die=150).returncode < 0
    line = refusal(rsdl("train", config, "optim.lr=0.5", "trainer.max_epochs=7"))
    assert "optim.lr 0.002 -> 0.5" in line and "trainer.max_epochs 6 -> 7" in line
    assert "--restart" in line

    moved = shutil.copytree(packed, f"{packed}-moved")
    here = [f"data.url={moved}", "data.num_workers=1", "data.prefetch=1", "trainer.accumulate=2"]
    assert rsdl("train", config, *here, "checkpoint.every_minutes=5").returncode == 0
    assert run_at("run").record["resumes"] == 1


def test_another_data_set_is_refused(rsdl: "Rsdl", write_config: "Write", packed: str):
    config = write_config("run", trainer__max_epochs=6)
    assert rsdl("train", config, die=150).returncode < 0
    manifest = Path(packed) / "manifest.json"
    manifest.write_text(manifest.read_text().replace("harbor", "harbour"))
    assert "is not the data set that this run was begun with" in refusal(rsdl("train", config))


def test_restart_keeps_the_old_run_where_the_new_one_cannot_begin(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find", packed: str
):
    config = write_config("run", trainer__max_epochs=1)
    assert rsdl("train", config).returncode == 0
    refusal(rsdl("train", config, "--restart", "data.batch_size=1000"))
    assert run_at("run").names == FILES
    assert run_at("run").record["status"] == "completed"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["optim.lr=-1"], "optim.lr: input should be greater than 0, is -1"),
        (["optim.rate=1"], "optim.rate: unknown field"),
        (["model.name=resnet5"], "model.name"),
        (["data.batch_size=1000"], "data.batch_size: 1000 exceeds the 18 samples"),
        (["data.train_split=training"], 'data.train_split: data set "images" has no split'),
        (["data.val_split=validation"], 'data.val_split: data set "images" has no split'),
        (["data.url=nowhere"], "data.url: no manifest at nowhere"),
        (["optim.name=adamwow"], "optim.name"),
        (["augment.mixup=0.2", "data.batch_size=3"], "data.batch_size"),
        (["trainer.accumulate=3"], "data.batch_size: 4 samples cannot be shared equally"),
        (["data.partitions=3"], "data.batch_size"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(
    overrides: list[str], words: str, rsdl: "Rsdl", write_config: "Write", tmp_path: Path
):
    line = refusal(rsdl("train", write_config("run"), *overrides))
    assert words in line
    assert not (tmp_path / "runs").exists()


def test_an_output_in_the_way_is_one_line(rsdl: "Rsdl", write_config: "Write", tmp_path: Path):
    (tmp_path / "runs").write_text("a file")
    assert "is a file, not a folder" in refusal(rsdl("train", write_config("run")))
    assert (tmp_path / "runs").read_text() == "a file"


def test_a_full_disk_is_one_line_and_the_last_checkpoint_stays(
    rsdl: "Rsdl",
    write_config: "Write",
    run_at: "Find",
    tmp_path: Path,
    mount_disk: "Callable[[Path, str], Path]",
):
    disk = mount_disk(tmp_path / "runs", "2m")
    # Adam's two moments make last.ckpt 1.3 MB: the first fits, a second beside it does not.
    config = write_config("run", trainer__max_epochs=30)
    line = refusal(rsdl("train", config), 69)
    assert "free some space" in line and "last.ckpt" in line
    run = run_at("run")
    position = run.load()["rsdl"]["position"]
    assert position["step"] == 4
    # It waits to be started again, elsewhere or with more room.
    assert run.record["status"] == "preempted" and "MB free" in run.record["reason"]
    assert run.record["preemptions"] == 0
    assert not [name for name in run.names if ".part-" in name]
    mount_disk(disk, "30m")
    assert rsdl("train", config).returncode == 0
    assert run.record["status"] == "completed" and run.record["resumes"] == 1


class Trap:
    """What a malicious pickle would run."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path(self.path),))


def test_a_damaged_checkpoint_is_one_line_and_a_malicious_one_never_runs(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find", tmp_path: Path
):
    config = write_config("run", trainer__max_epochs=6)
    assert rsdl("train", config, die=150).returncode < 0
    run = run_at("run")
    last = run.folder / "checkpoints/last.ckpt"
    whole = last.read_bytes()

    for damaged in (whole[: len(whole) // 2], b"", b"no checkpoint"):
        last.write_bytes(damaged)
        line = refusal(rsdl("train", config))
        assert "last.ckpt: is not a checkpoint that can be loaded safely" in line
        assert "--restart" in line

    trap = tmp_path / "trap"
    torch.save({"state_dict": Trap(str(trap))}, last)
    assert "loaded safely" in refusal(rsdl("train", config))
    last.write_bytes(pickle.dumps(Trap(str(trap))))
    assert "loaded safely" in refusal(rsdl("train", config))
    assert not trap.exists()
    pickle.loads(last.read_bytes())
    assert trap.exists(), "the trap must be able to spring"

    torch.save({"weights": torch.zeros(1)}, last)
    assert "is no checkpoint of rsdl" in refusal(rsdl("train", config))
    torch.save(run.load("best"), last)
    assert "holds no position" in refusal(rsdl("train", config))

    last.write_bytes(whole)
    assert rsdl("train", config).returncode == 0

    (run.folder / "run.json").write_text("{}")
    assert "run.json: is not a run record" in refusal(rsdl("train", config))


def test_a_rate_that_explodes_is_one_line(rsdl: "Rsdl", write_config: "Write", run_at: "Find"):
    config = write_config(
        "run", optim__lr=1e30, optim__name="sgd", optim__warmup_epochs=0, trainer__max_epochs=4
    )
    ended = rsdl("train", config)
    assert ended.returncode == 1
    assert ended.stderr.startswith("optim.lr: the training loss is nan at step")
    assert "Traceback" not in ended.stderr
    assert run_at("run").record["status"] == "failed"


def test_a_corrupt_sample_stops_the_run_or_is_skipped_as_asked(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find", packed: str
):
    shard = sorted(Path(packed).glob("train*.tar"))[0]
    content = bytearray(shard.read_bytes())
    start = content.index(b"\xff\xd8\xff")
    content[start : start + 64] = bytes(64)
    shard.write_bytes(content)
    config = write_config("run", trainer__max_epochs=2, data__tail="pad")
    line = refusal(rsdl("train", config))
    assert shard.name in line and "data.on_corrupt=skip" in line
    assert rsdl("train", config, "--restart", "data.on_corrupt=skip").returncode == 0
    for entry in run_at("run").record["ledger"]:
        assert (entry["planned"], entry["delivered"], entry["skipped"]) == (18, 17, 1)
        assert entry["balanced"] and entry["padded"] == 2


def test_a_run_that_stalls_stops_early_and_stays_stopped(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find"
):
    config = write_config(
        "run",
        model__name="test_vit",  # without batch norm: what is not trained does not change
        trainer__patience=2,
        trainer__max_epochs=9,
        optim__lr=1e-9,
        optim__name="sgd",
    )
    assert rsdl("train", config).returncode == 0
    run = run_at("run")
    assert run.record["epochs_completed"] == 3
    # As if it had been killed before it could say that it is completed.
    record = run.folder / "run.json"
    record.write_text(record.read_text().replace('"completed"', '"running"'))
    before = run.load()
    assert rsdl("train", config).returncode == 0
    assert run.record["epochs_completed"] == 3 and len(run.record["ledger"]) == 3
    assert run.load()["rsdl"] == before["rsdl"]


def test_damaged_shards_are_one_line(rsdl: "Rsdl", write_config: "Write", packed: str):
    config = write_config("run", trainer__max_epochs=1)
    for split in ("train", "val"):
        shard = sorted(Path(packed).glob(f"**/*{split}*.tar"))[0]
        whole = shard.read_bytes()
        shard.write_bytes(whole[:1000])
        line = refusal(rsdl("train", config, "--restart"))
        assert shard.name in line and "is truncated" in line
        shard.unlink()
        line = refusal(rsdl("train", config, "--restart"))
        assert shard.name in line and "no such file" in line
        shard.write_bytes(whole)
    manifest = Path(packed) / "manifest.json"
    manifest.write_text(manifest.read_text()[:200])
    assert "manifest.json: not a manifest" in refusal(rsdl("train", config, "--restart"))
