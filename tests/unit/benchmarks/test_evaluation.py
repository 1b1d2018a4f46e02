"""Validation beside the bare loop: every passage has its loop, and an aim can be missed."""

import argparse
import mmap
from pathlib import Path

import torch

from benchmarks.harness.tiles import pack_tiles
from benchmarks.harness.training_fixture import Spent
from benchmarks.trainer.evaluation import (
    KINDS,
    TTA,
    Pass,
    evaluate_in_turns,
    evaluation_tables,
    read_peak,
    reset_peak,
)


def test_every_passage_is_followed_by_the_bare_loop(tmp_path: Path) -> None:
    options = argparse.Namespace(image_size=32, accelerator="cpu")
    url = pack_tiles(tmp_path, 32, {"train": 10, "val": 10})
    cache = {"folder": str(tmp_path / "cache")}
    passes = evaluate_in_turns(options, "test_resnet", url, 5, cache)
    assert list(passes) == list(KINDS)
    for pair in passes.values():
        assert all(one.spent.seconds > 0 and one.peak_mb > 0 for one in pair)


def test_the_peak_is_that_of_what_came_after_the_reset() -> None:
    cpu = torch.device("cpu")
    reset_peak(cpu)
    before = read_peak(cpu)
    # Not a tensor's memory, which the process may keep when it is freed.
    with mmap.mmap(-1, 64 << 20) as held:
        for page in range(0, 64 << 20, 4096):
            held[page] = 1
        assert read_peak(cpu) > before + (48 << 20)
    reset_peak(cpu)
    assert read_peak(cpu) < before + (32 << 20)


def test_tta_is_judged_by_its_views() -> None:
    one, eight = Pass(Spent(1.0, 1.0), 1.0), Pass(Spent(8.0, 8.0), 1.0)
    found = [{kind: (eight if kind == TTA else one, one) for kind in KINDS}] * 3
    (table,) = evaluation_tables("x", 10, found)
    assert all(aim.met for aim in table.aims)
    found = [{kind: (eight, one) for kind in KINDS}] * 3
    (table,) = evaluation_tables("x", 10, found)
    assert [aim.met for aim in table.aims] == [False, False, False, True]
