"""The trainer beside a hand-written loop: the same batches, kept, and an account that balances."""

import argparse
from pathlib import Path

import torch

from benchmarks.harness.tiny_dataset import write_tiny_dataset
from benchmarks.harness.training_fixture import EpochTime
from benchmarks.trainer.overhead import OURS, PLAIN, hold_batches, measure_steps, steps_tables
from rsdl.config.load import validate
from rsdl.data.dataset import DataSet


def test_batches_are_held_as_they_were_loaded(tmp_path: Path) -> None:
    data = {"url": write_tiny_dataset(tmp_path / "tiny", 64), "image_size": 32, "batch_size": 16}
    config = validate({"name": "x", "data": data, "model": {"name": "test_resnet"}})
    held = hold_batches(config, DataSet(config.data), torch.device("cpu"))
    assert len(held) == 4
    samples = torch.cat([batch.samples for batch in held])
    assert samples.unique().numel() == 64
    assert len({batch.images.data_ptr() for batch in held}) == 4


def test_both_train_and_each_epoch_counts_once(tmp_path: Path) -> None:
    options = argparse.Namespace(
        model="test_resnet", image_size=32, batch_size=16, accelerator="cpu", rounds=2
    )
    speed, cpu = measure_steps(write_tiny_dataset(tmp_path / "tiny", 64), options)
    for table in (speed, cpu):
        assert [row.name for row in table.rows] == [PLAIN, OURS]
        assert all(len(row.values) == 2 and min(row.values) > 0 for row in table.rows)


def test_the_threshold_is_missed_where_ours_takes_longer() -> None:
    quick, slow = [EpochTime(1.0, 1.0)] * 3, [EpochTime(1.1, 1.0)] * 3
    speed, cpu = steps_tables("x", 10, {PLAIN: quick, OURS: slow})
    assert not speed.targets[0].met
    assert cpu.targets[0].met
    assert steps_tables("x", 10, {PLAIN: slow, OURS: quick})[0].targets[0].met
