"""Every input gets its epochs, and what it loads is what it counts."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.harness.imagery import pack_tiles
from benchmarks.harness.training_fixture import EpochTime
from benchmarks.trainer.input_pipeline import (
    DECODED,
    DEVICE,
    FIRST,
    HELD,
    RESIDENT,
    WAYS,
    Turn,
    pipeline_table,
    train_in_turns,
    way_of,
    ways_of,
)
from rsdl.config.load import validate
from rsdl.config.task import TASKS
from rsdl.data.dataset import DataSet

COUNTS = {"train": 12, "val": 10}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiles")


def test_every_way_has_each_place_of_its_round_once() -> None:
    assert way_of(0) == HELD
    num = len(WAYS)
    rounds = [[way_of(1 + num * number + place) for place in range(num)] for number in range(2)]
    assert rounds == [list(WAYS), list(WAYS)[::-1]]


def test_too_few_tiles_are_refused_in_one_line_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="train would have 8 images, but takes 10 at least: pass"):
        pack_tiles(tmp_path, 32, {"train": 8, "val": 10})
    assert not list(tmp_path.iterdir())


def test_tiles_are_packed_to_the_number(work: Path) -> None:
    url = pack_tiles(work, 32, COUNTS)
    splits = DataSet(validate(fields(url)).data).manifest.splits
    assert {name: split.samples for name, split in splits.items()} == COUNTS
    assert pack_tiles(work, 32, COUNTS) == url


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_all_ways_train_and_their_ledgers_balance(work: Path, tmp_path: Path, task: str) -> None:
    ways = ways_of(task)
    url = pack_tiles(work, 32, COUNTS, target=TASKS[task].target)
    config = validate(fields(url, ways) | {"task": {"name": task}})
    turns = train_in_turns(config, tmp_path / "kept")
    assert list(turns) == list(ways)
    assert all(len(epochs) == 2 for epochs in turns.values())
    # Each first epoch had a folder of its own, or it would not have been one.
    kept = {path.name for path in (tmp_path / "kept").iterdir()}
    assert {"kept", "cold-1", "cold-2"} <= kept
    for way in (FIRST, DECODED, DEVICE):
        assert all(turn.loader_cpu_s > 0 for turn in turns[way])
        assert sum(turn.waited_s for turn in turns[way]) > 0


def test_a_threshold_is_missed_where_a_way_takes_longer_or_more_of_the_processor() -> None:
    quick = [Turn(EpochTime(1.0, 1.0), 0.0, 0.0)] * 3
    slow = [Turn(EpochTime(1.1, 1.0), 0.1, 0.001)] * 3
    greedy = [Turn(EpochTime(1.0, 1.0), 0.0, 0.1)] * 3
    turns = {HELD: quick, FIRST: slow, DECODED: greedy, DEVICE: slow, RESIDENT: slow}
    table = pipeline_table("x", 10, turns, shares_cores=True)
    assert [target.met for target in table.targets] == [False, True, True, False]
    assert len(pipeline_table("x", 10, turns, shares_cores=False).targets) == 2


def fields(url: str, ways: Sequence[str] = WAYS) -> dict[str, object]:
    return {
        "name": "x",
        "data": {"url": url, "image_size": 32, "batch_size": 4},
        "model": {"name": "test_resnet"},
        "trainer": {"accelerator": "cpu", "max_epochs": 1 + 2 * len(ways)},
    }
