"""The loader benchmark: its worker processes, and the check that all do the same work."""

import argparse
import io
import json
import os
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.harness.serve import serve
from benchmarks.harness.task import Counter, Task, check_delivery
from benchmarks.harness.worker_process import cpu_seconds, find_python
from benchmarks.loader.catalog import LOADERS
from benchmarks.loader.throughput import add_arguments, run

TASK = Task("images", "shards", "work", "float32", batch_size=4, image_size=8)


def test_a_task_travels_as_a_line() -> None:
    assert Task.from_json(TASK.to_json()) == TASK
    assert "\n" not in TASK.to_json()


def test_what_was_asked_for_is_taken() -> None:
    counter = Counter(TASK)
    counter(torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 3]))
    assert counter.images == 4


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (torch.randn(4, 8, 8, 3), torch.arange(4)),
        (torch.randn(4, 3, 8, 8).double(), torch.arange(4)),
        (torch.rand(4, 3, 8, 8) * 255, torch.arange(4)),  # not normalised
        (torch.zeros(4, 3, 8, 8), torch.arange(4)),
        (torch.randn(4, 3, 8, 8), torch.ones(4)),  # sorted by class
    ],
)
def test_what_was_not_asked_for_is_refused(images: torch.Tensor, labels: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="delivers"):
        check_delivery(TASK, images, labels)


def test_a_loader_that_is_not_installed_says_what_is_missing() -> None:
    request = {"module": "no_such_loader", "arguments": {}, "packages": [], "task": TASK.to_json()}
    outlet = io.StringIO()
    serve(io.StringIO(json.dumps(request) + "\n"), outlet)
    assert "no_such_loader" in json.loads(outlet.getvalue())["missing"]


def test_peers_run_where_they_are_installed_and_we_run_here() -> None:
    choices = ["/peers/python", "LitData=/lit/python"]
    assert find_python("LitData", LOADERS["LitData"], choices) == "/lit/python"
    assert find_python("WebDataset", LOADERS["WebDataset"], choices) == "/peers/python"
    assert find_python("rsdl", LOADERS["rsdl"], choices) == sys.executable
    assert find_python("WebDataset", LOADERS["WebDataset"], []) == sys.executable


def test_processor_time_of_a_process_grows_with_its_work() -> None:
    before = cpu_seconds(os.getpid())
    while cpu_seconds(os.getpid()) == before:
        sum(range(100_000))
    assert cpu_seconds(os.getpid()) > before


@pytest.mark.slow
def test_loaders_deliver_and_one_that_fails_is_in_the_table(
    image_tree: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    options = parser.parse_args([
        "--images", str(image_tree), "--sizes", "--peers", "rsdl", "decoder alone", "LitData",
        "--python", "LitData=/no/such/python", "--batch-size", "12", "--seconds", "0.01",
        "--work", str(tmp_path / "work"),
    ])  # fmt: skip
    options.rounds, options.quick = 2, False
    result = run(options)
    assert [table["title"].split("; ")[1][:7] for table in result["tables"]] == [
        "uint8 b",
        "float32",
    ]
    for table in result["tables"]:
        ours, decoder, absent = table["rows"]
        assert len(ours["values"]) == len(decoder["values"]) == 2, capfd.readouterr().err
        assert min(ours["values"] + decoder["values"]) > 0
        assert absent["values"] == []
        assert "/no/such/python" in absent["note"]
