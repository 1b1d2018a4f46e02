"""Nodes come and go while a run goes on: the same global batches, and nothing lost."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.hosts import Hosts, open_hosts
from tests.integration.nodes import LIMIT_S, Nodes

if TYPE_CHECKING:
    from tests.integration.conftest import Find, Ranks, Write

pytestmark = pytest.mark.slow

FIELDS = {"model__name": "test_vit", "data__batch_size": 12, "data__tail": "pad"}


@pytest.fixture
def hosts(tmp_path: Path, require: Callable[[str, bool], None]) -> Iterator[Hosts]:
    """Return three hosts and a switch."""
    with open_hosts(3, tmp_path) as three:
        require("netns", three is not None)
        assert three is not None
        yield three


def test_nodes_come_and_go_and_the_global_batches_stay(
    hosts: Hosts, write_config: "Write", run_at: "Find", ranks: "Ranks"
):
    fields = FIELDS | {"trainer__max_epochs": 150, "optim__ema_decay": 0.9}
    assert ranks(1, "train", write_config("whole", **fields)) == [0]
    expected = ranks.batches(1)
    nodes = Nodes(hosts, write_config("run", **fields), "1:3")
    rendezvous = nodes.serve()

    first, second = nodes.start(0), nodes.start(1)
    attempt = nodes.wait_for_world(2)
    third = nodes.start(2)  # comes: all save, and it joins
    attempt = nodes.wait_for_world(3, after=attempt)
    hosts.kill(0)  # is lost: the others go on from the last checkpoint
    assert first.wait() == -signal.SIGKILL
    attempt = nodes.wait_for_world(2, after=attempt)
    third.send_signal(signal.SIGTERM)  # is taken: all save, and the other goes on alone
    assert third.wait(LIMIT_S) == 75, hosts.said(2)
    nodes.wait_for_world(1, after=attempt)
    assert second.wait(LIMIT_S) == 0, hosts.said(1)
    assert nodes.start(2).wait(LIMIT_S) == 0, "completed, whoever looks"
    assert rendezvous.wait(LIMIT_S) == 0, hosts.said(-1)

    record = run_at("run").record
    assert record["status"] == "completed"
    worlds = record["worlds"]
    assert [world["world_size"] for world in worlds] == [2, 3, 2, 1]
    assert [world["accumulate"] for world in worlds] == [2, 1, 2, 3]
    assert record["ledger"] == run_at("whole").record["ledger"]
    assert all(entry["balanced"] for entry in record["ledger"])
    for one, two in zip(run_at("whole").rows, run_at("run").rows, strict=True):
        assert [one[name] for name in ("step", "samples", "lr")] == [
            two[name] for name in ("step", "samples", "lr")
        ]
    begun: dict[tuple[int, int], list[int]] = {}
    for number, _, _, step, rows in nodes.lines():
        begun.setdefault((number, step), []).extend(rows)
    for (_, step), rows in begun.items():
        # Of a step that a kill has interrupted, some ranks have not begun their part.
        assert set(rows) <= set(expected[step]) and len(rows) == len(set(rows))
    assert {step: sorted(begun[key]) for key in begun for step in [key[1]]} == expected
