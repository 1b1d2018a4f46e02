"""Checkpoints in shards: whole or not there, of any number of ranks, for any number of ranks."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from rsdl.records.run_record import LAST

from .conftest import Run, differences

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Compare, Fault, Find, Ranks, Rsdl, Write

pytestmark = pytest.mark.slow

FSDP = "trainer.strategy=fsdp"
FIELDS: dict[str, Any] = {
    "model__name": "test_vit",
    "data__batch_size": 6,
    "trainer__max_epochs": 3,
    "optim__ema_decay": 0.9,
    "optim__warmup_epochs": 0.0,
}


def shards_of(run: Run) -> dict[str, dict[str, int]]:
    """Return the sizes of a run's shard files, by checkpoint and rank."""
    found: dict[str, dict[str, int]] = {}
    for path in sorted((run.folder / "checkpoints").glob("shards-*")):
        stem, _, rank = path.name.rpartition("-")
        found.setdefault(stem, {})[rank] = path.stat().st_size
    return found


def as_one_file(run: Run) -> None:
    """Rewrite the last checkpoint as releases without shards wrote it."""
    content = run.load()
    content["rsdl"] = content["rsdl"] | {"format": 1}
    (run.folder / LAST).unlink()  # its bytes are mapped
    torch.save(content, run.folder / LAST)
    for path in (run.folder / "checkpoints").glob("shards-*"):
        path.unlink()


@pytest.mark.parametrize(
    ("world_size", "strategy"), [(2, "fsdp"), (3, "fsdp"), (1, "fsdp"), (2, "ddp"), (1, "auto")]
)
def test_any_world_resumes_from_shards_as_from_one_file_bit_by_bit(
    world_size: int, strategy: str, ranks: "Ranks", fault: "type[Fault]", write_config: "Write",
    run_at: "Find", compare_runs: "Compare", tmp_path: Path,
):  # fmt: skip
    config, run = write_config("run", **FIELDS), run_at("run")
    # The last rank alone is asked to stop, within the second epoch.
    assert ranks(2, "train", config, FSDP, fault=fault("term", 1, 4)) == [75, 75], ranks.said(0)
    step = run.load()["rsdl"]["position"]["step"]
    other = Run(tmp_path / "other" / "run")
    shutil.copytree(run.folder, other.folder)
    as_one_file(other)
    assert (run.folder / LAST).stat().st_size < (other.folder / LAST).stat().st_size / 10

    how = [config, f"trainer.strategy={strategy}"]
    assert ranks(world_size, "train", *how) == [0] * world_size, ranks.said(0)
    assert min(ranks.batches(world_size)) == step
    assert ranks(world_size, "train", *how, f"output={tmp_path / 'other'}") == [0] * world_size
    compare_runs(run, other)
    assert all(entry["balanced"] for entry in run.record["ledger"])
    assert len(shards_of(run)) == (strategy == "fsdp"), "the replaced shards are gone"


def test_no_rank_writes_the_whole_and_a_single_process_reads_it(
    rsdl: "Rsdl", ranks: "Ranks", write_config: "Write", run_at: "Find"
):
    config, run = write_config("run", **FIELDS, checkpoint__keep=3), run_at("run")
    assert ranks(3, "train", config, FSDP, "checkpoint.every_minutes=1e-4") == [0] * 3
    content = run.load()
    sizes = [
        value.nbytes
        for part in (content["state_dict"], content["optimizer_states"][0]["state"])
        for value in torch.utils._pytree.tree_leaves(part)
        if value.ndim
    ]
    kept = sorted(path.stem for path in (run.folder / "checkpoints").glob("step-*.ckpt"))
    found = shards_of(run)
    steps = [stem.split("-")[1] for stem in found]
    assert [f"step-{step}" for step in steps][:-1] == kept and len(kept) == 2
    for files in found.values():
        assert sorted(files) == ["0", "1", "2"] and sum(files.values()) == sum(sizes)
        # Rows are dealt one by one: those of a small tensor are not a third each.
        assert max(files.values()) < 0.4 * sum(sizes)
    # The last weights are those that the last validation saw, which gathered the best.
    assert differences(content["state_dict"], run.load(kept[-1])["state_dict"])
    for name in ("last", *kept):
        ended = rsdl("evaluate", run.folder / f"checkpoints/{name}.ckpt")
        assert ended.returncode == 0, ended.stderr


def test_without_a_validation_the_last_shards_are_the_best_weights(
    ranks: "Ranks", write_config: "Write", run_at: "Find"
):
    config, run = write_config("run", **FIELDS, data__val_split=None), run_at("run")
    assert ranks(2, "train", config, FSDP) == [0, 0], ranks.said(0)
    best = torch.load(run.folder / "checkpoints/best.ckpt", weights_only=True)
    assert differences(best["state_dict"], run.load()["state_dict"]) == []
    assert "optimizer_states" not in best and "shards" not in best


@pytest.mark.parametrize("rank", [0, 1])
def test_killed_while_it_writes_its_shards_a_rank_leaves_the_checkpoint_before(
    rank: int, ranks: "Ranks", fault: "type[Fault]", write_config: "Write", run_at: "Find",
    compare_runs: "Compare",
):  # fmt: skip
    whole, killed = write_config("whole", **FIELDS), write_config("killed", **FIELDS)
    assert ranks(2, "train", whole, FSDP) == [0, 0], ranks.said(0)
    dies = fault("kill", rank, 1, "saving")
    codes = ranks(2, "train", killed, FSDP, fault=dies, limit_s=60)
    assert codes[rank] == -9 and codes[1 - rank] == 1, ranks.said(1 - rank)
    assert f"rank {rank} on" in ranks.said(1 - rank)
    run = run_at("killed")
    assert run.load()["rsdl"]["position"]["step"] == 3, "the checkpoint of the first epoch"
    assert len(shards_of(run)) == 2, "and the attempt that was killed"
    assert ranks(2, "train", killed, FSDP) == [0, 0], ranks.said(0)
    compare_runs(run_at("whole"), run)
    assert len(shards_of(run)) == 1


def test_a_full_disk_is_one_line_and_the_last_checkpoint_stays(
    ranks: "Ranks", write_config: "Write", run_at: "Find", tmp_path: Path,
    mount_disk: "Callable[[Path, str], Path]",
):  # fmt: skip
    fields = {**FIELDS, "trainer__max_epochs": 9}
    assert ranks(2, "train", write_config("probe", **fields), FSDP, "trainer.max_epochs=1") == [
        0,
        0,
    ]
    (files,) = shards_of(run_at("probe")).values()
    size = sum(files.values())
    disk = mount_disk(tmp_path / "full", f"{int(1.9 * size) >> 10}k")
    config = write_config("run", **fields)
    how = [config, FSDP, f"output={disk}"]
    codes = ranks(2, "train", *how, limit_s=120)
    assert 69 in codes and None not in codes, ranks.said(0) + ranks.said(1)
    lines = [
        line for rank in (0, 1) for line in ranks.said(rank).splitlines() if "full/run" in line
    ]
    assert lines and all("the disk is full; free some space" in line for line in lines), lines
    run = Run(disk / "run")
    assert run.load()["rsdl"]["position"]["step"] == 3
    assert run.record["status"] == "preempted"
    mount_disk(disk, f"{4 * size >> 10}k")
    assert ranks(2, "train", *how) == [0, 0], ranks.said(0)
