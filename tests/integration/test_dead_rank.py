"""Whatever becomes of one rank, no other waits for it: all end, and say which one it was."""

from typing import TYPE_CHECKING

import pytest

from tests.unit.data.batches import damage

if TYPE_CHECKING:
    from tests.integration.conftest import Fault, Find, Ranks, Write

pytestmark = pytest.mark.slow

FIELDS = {"model__name": "test_vit", "data__batch_size": 6, "trainer__max_epochs": 2}


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_is_killed_is_named_by_the_other(
    rank: int, ranks: "Ranks", fault: "type[Fault]", write_config: "Write", run_at: "Find"
):
    config = write_config("run", **FIELDS)
    codes = ranks(2, "train", config, fault=fault("kill", rank, 4))
    assert codes[rank] == -9 and codes[1 - rank] == 1
    said = ranks.said(1 - rank)
    assert f"rank {rank} on " in said and "last at step" in said, said
    assert "Traceback" not in said
    if rank:
        assert run_at("run").record["status"] == "failed"
        assert "rank 1 on" in run_at("run").record["reason"]
    # What was saved at the end of the first epoch is there, and the run goes on.
    assert ranks(2, "train", config) == [0, 0], ranks.said(0)
    assert all(entry["balanced"] for entry in run_at("run").record["ledger"])


def test_a_rank_that_hangs_is_given_up_after_the_time_out(
    ranks: "Ranks", fault: "type[Fault]", write_config: "Write", run_at: "Find"
):
    config = write_config("run", trainer__timeout_s=10, **FIELDS)
    codes = ranks(3, "train", config, fault=fault("stop", 2, 4))
    assert codes == [1, 1, None]
    assert "rank 2 on " in ranks.said(0) and "has not been heard of for" in ranks.said(0)
    assert "last at step" in ranks.said(0)
    assert "rank 2 on " in run_at("run").record["reason"]


def test_what_one_rank_raises_ends_all_and_is_told_with_its_name(
    ranks: "Ranks", fault: "type[Fault]", write_config: "Write", run_at: "Find"
):
    codes = ranks(2, "train", write_config("run", **FIELDS), fault=fault("raise", 1, 2))
    assert codes == [1, 1]
    assert "the rank's own trouble" in ranks.said(1)
    told = [line for line in ranks.said(0).splitlines() if "rank 1 on" in line]
    assert len(told) == 1 and "ArithmeticError: the rank's own trouble" in told[0]
    assert run_at("run").record["status"] == "failed"


@pytest.mark.parametrize("policy", ["error", "skip"])
def test_a_sample_that_one_rank_cannot_read_leaves_all_ranks_in_step(
    policy: str, packed: str, ranks: "Ranks", write_config: "Write", run_at: "Find"
):
    name = damage(packed, 5)
    config = write_config("run", data__on_corrupt=policy, **FIELDS)
    codes = ranks(2, "train", config)
    if policy == "error":
        # Wrong input on one rank is wrong input for all: trying again cannot help.
        assert codes == [2, 2], ranks.said(0)
        assert all(name in ranks.said(rank) for rank in (0, 1))
        assert sum("rank " in ranks.said(rank) for rank in (0, 1)) == 1
        return
    assert codes == [0, 0], ranks.said(0)
    ledger = run_at("run").record["ledger"]
    assert [(e["delivered"], e["skipped"], e["balanced"]) for e in ledger] == [(17, 1, True)] * 2
    traces = [
        len((ranks.folder / f"rank-{rank}.trace").read_text().splitlines()) for rank in (0, 1)
    ]
    assert traces == [6, 6]


def test_ranks_that_do_not_come_are_named(ranks: "Ranks", write_config: "Write"):
    config = write_config("run", trainer__rendezvous_s=5, **FIELDS)
    codes = ranks(1, "train", config, world_size=2)
    assert codes == [75]  # it gives its device up, and may be started again
    assert "rank 1 has not come within 5 s" in ranks.said(0)
    assert len(ranks.said(0).strip().splitlines()) == 1


@pytest.mark.parametrize("rank", [0, 1])
def test_asked_to_stop_while_training_is_being_set_up_all_ranks_stop(
    rank: int, ranks: "Ranks", fault: "type[Fault]", write_config: "Write", run_at: "Find"
):
    config = write_config("run", trainer__timeout_s=15, **FIELDS)
    codes = ranks(2, "train", config, fault=fault("term", rank, 0, "feeding"))
    assert codes == [75, 75], ranks.said(0) + ranks.said(1)
    assert run_at("run").record["status"] == "preempted"
    assert ranks(2, "train", config) == [0, 0], ranks.said(0)
    assert all(entry["balanced"] for entry in run_at("run").record["ledger"])
