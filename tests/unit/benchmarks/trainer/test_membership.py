"""What a change of the nodes costs is read from what the ranks themselves have noted."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.trainer.membership import make_table
from benchmarks.trainer.two_nodes import LOST, PARTS, STEP_LOG, Rank, find_cost, read_ranks

TRAIN = """
import torch
network = torch.nn.Linear(2, 1)
optimizer = torch.optim.AdamW(network.parameters())
for _ in range(3):
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
"""


def test_a_rank_notes_its_start_network_steps_and_end(tmp_path: Path):
    notes = {"STEP_LOG": str(tmp_path), "WORLD_SIZE": "2", "PYTHONPATH": str(STEP_LOG)}
    begin = time.time()
    subprocess.run([sys.executable, "-c", TRAIN], env={**os.environ, **notes}, check=True)
    (rank,) = read_ranks(tmp_path)
    assert rank.world_size == 2
    assert [number for _, number in rank.steps] == [1, 2, 3]
    times = [begin, rank.begun, rank.building, *(at for at, _ in rank.steps), rank.ended]
    assert times == sorted(times) and rank.ended < time.time()


def test_a_line_that_is_being_written_does_not_count(tmp_path: Path):
    (tmp_path / "1").write_text('["begun", 5.0, 2]\n["step", 6.0, 1]\n["step", 7.')
    (tmp_path / "2").write_text('["beg')
    assert read_ranks(tmp_path) == [Rank(5.0, 2, steps=[(6.0, 1)])]


def test_a_cost_is_from_the_last_step_to_the_first_and_counts_steps_made_again():
    survivor = Rank(0.0, 2, ended=13.0, steps=[(9.0, 39), (10.0, 40), (11.0, 41)])
    lost = Rank(0.0, 2, steps=[(9.0, 39), (10.5, 40)])
    cost = find_cost([lost, survivor], Rank(16.0, 1, 18.0, steps=[(19.0, 40)]), 10.6, 64)
    assert (cost.seconds, cost.again) == (8.0, 2 * 64)
    assert cost.parts == dict(zip(PARTS, (2.0, 3.0, 2.0, 1.0), strict=True))


def test_a_start_is_counted_from_its_command():
    cost = find_cost([], Rank(2.0, 2, 5.0, steps=[(6.0, 1), (7.0, 2)]), 1.0, 64)
    assert (cost.seconds, cost.again) == (5.0, 0)
    assert sum(cost.parts.values()) == pytest.approx(cost.seconds)


def test_a_table_leaves_out_what_a_killed_rank_could_not_note():
    old, new = Rank(0.0, 2, steps=[(10.0, 1)]), Rank(11.0, 1, 12.0, steps=[(14.0, 2)])
    table = make_table(LOST, {"torchrun": [{LOST: find_cost([old], new, 10.0, 64)}]})
    (row,) = table.rows
    assert (row.values, row.facts["samples again"]) == ([4.0], 0)
    assert list(row.facts)[1:] == list(PARTS[1:]), "it has not said when it ended"
