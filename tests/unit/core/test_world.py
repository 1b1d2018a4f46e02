"""Alone, a process is the whole world."""

import pytest
import torch

from rsdl.core.world import Place, find_place, is_main, rank, sum_over_ranks, world_size

CPU = torch.device("cpu")


def test_alone_everything_is_our_own():
    assert (world_size(), rank()) == (1, 0)
    assert sum_over_ranks([1, 1 << 63], CPU) == [1, 1 << 63]


@pytest.mark.parametrize(
    ("environment", "main"),
    [
        ({}, True),
        ({"RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"RANK": "1", "LOCAL_RANK": "1"}, False),
        ({"RANK": "8", "LOCAL_RANK": "0"}, False),  # first process of the second node
        ({"NODE_RANK": "1"}, True),  # starts the ranks of a node, and is none itself
    ],
)
def test_the_main_process_is_known_before_the_processes_meet(
    environment: dict[str, str], main: bool, monkeypatch: pytest.MonkeyPatch
):
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_main() == main


def test_a_process_finds_its_place_where_all_of_it_is_told(monkeypatch: pytest.MonkeyPatch):
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    for number, name in enumerate(names):
        assert find_place() is None
        monkeypatch.setenv(name, str(number))
    assert find_place() == Place(0, 1, 2, 3)
