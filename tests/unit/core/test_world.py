"""Alone, a process is the whole world."""

import pytest
import torch

from rsdl.core.world import any_rank, is_main, rank, sum_over_ranks, world_size

CPU = torch.device("cpu")


def test_alone_everything_is_our_own():
    assert (world_size(), rank()) == (1, 0)
    assert sum_over_ranks([1, 1 << 63], CPU) == [1, 1 << 63]
    assert any_rank(True, CPU) and not any_rank(False, CPU)


@pytest.mark.parametrize(
    ("environment", "main"),
    [
        ({}, True),
        ({"RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"RANK": "1", "LOCAL_RANK": "1"}, False),
        ({"RANK": "8", "LOCAL_RANK": "0"}, False),  # first process of the second node
        ({"LOCAL_RANK": "1"}, False),
        ({"NODE_RANK": "1"}, False),
        ({"NODE_RANK": "0", "LOCAL_RANK": "0"}, True),
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
