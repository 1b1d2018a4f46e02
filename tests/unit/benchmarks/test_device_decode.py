"""Host against device, by cores: who wins is worked out, and both are measured as they run."""

import argparse
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.harness.cores import hold_on, tell_winner
from benchmarks.harness.measure import ROUNDS
from benchmarks.loader.device_decode import MEMORY, add_arguments, read_options, run
from benchmarks.loader.pixels import compare_pixels

FEW = ["--sizes", "64", "--cores", "1", "--count", "36", "--seconds", "0.01", "--batch-size", "4"]


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--quick", action="store_true")
    add_arguments(parser)
    return parser.parse_args(arguments)


@pytest.mark.parametrize(
    ("ratios", "said"),
    [
        ({1: 3.0, 2: 1.6, 4: 0.8, 8: 0.4}, "the device wins up to 2 per GPU, and no more at 4"),
        ({1: 0.9, 2: 1.5}, "the host wins from 1 core per GPU on"),
        ({4: 0.9}, "the host wins from 4 cores per GPU on"),
        ({1: 3.0, 2: 1.1}, "the device wins at all that were tried, up to 2 cores per GPU"),
    ],
)
def test_the_winner_is_told_by_cores(ratios: dict[int, float], said: str) -> None:
    assert tell_winner(ratios).startswith(said)


@given(st.dictionaries(st.integers(1, 64), st.floats(0.01, 10), min_size=1))
def test_the_device_never_wins_where_it_lost(ratios: dict[int, float]) -> None:
    text = tell_winner(ratios)
    first = min(ratios)
    assert text.startswith("the host wins") == (ratios[first] <= 1)
    assert ("at all that were tried" in text) == all(ratio > 1 for ratio in ratios.values())


def test_threads_are_held_on_cores_and_let_go() -> None:
    every = os.sched_getaffinity(0)
    asked, seen = threading.Event(), []
    older = threading.Thread(target=lambda: (asked.wait(), seen.append(os.sched_getaffinity(0))))
    older.start()
    threads = torch.get_num_threads()
    with hold_on(1):
        asked.set()
        older.join()
        newer = threading.Thread(target=lambda: seen.append(os.sched_getaffinity(0)))
        newer.start()
        newer.join()
        assert torch.get_num_threads() == 1
    assert seen == [{min(every)}] * 2
    assert os.sched_getaffinity(0) == every and torch.get_num_threads() == threads


def test_more_cores_than_there_are_cannot_be_asked_for() -> None:
    with pytest.raises(SystemExit, match="--cores: from 1 to the"):
        read_options(parse("--cores", "100000"))


def test_everyone_is_measured(image_tree: Path, tmp_path: Path) -> None:
    tiles = tmp_path / "imagery" / "tiles-64px-36"
    tiles.parent.mkdir()
    image_tree.rename(tiles)
    tiles.with_suffix(".complete").touch()
    options = parse(
        *FEW, "--rounds", "1", "--image-size", "32", "--device", "cpu", "--work", str(tmp_path)
    )
    result = run(options)
    names = [[row["name"] for row in table["rows"]] for table in result["tables"]]
    ways = ["host, 1 core", "device, 1 core"]
    assert names[:2] == [ways, [*ways, MEMORY]]
    assert all(min(row["values"]) > 0 for table in result["tables"][:2] for row in table["rows"])
    assert "which says nothing of GPUs" in result["title"]
    assert len(result["tables"]) == 3


def test_pixels_of_a_processor_are_the_hosts_and_repeated_chroma_is_not(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    (tmp_path / "class").mkdir()
    for number in range(3):
        noise = random.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        image = simplejpeg.encode_jpeg(noise, 90, "RGB", "420")
        (tmp_path / "class" / f"{number}.jpg").write_bytes(image)
    ours, repeated = compare_pixels(tmp_path, 40, 32, torch.device("cpu")).rows
    assert ours.values == [0.0] and repeated.values[0] > 1
