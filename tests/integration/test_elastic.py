"""A run goes on at another number of processes: the same global batches, in the same order."""

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.conftest import Fault, Find, Ranks, Rsdl, Write

pytestmark = pytest.mark.slow

# 3 steps an epoch, the batch divides by 1, 2 and 3 ranks; no batch norm, no dropout.
FIELDS = {
    "model__name": "test_vit",
    "data__batch_size": 6,
    "trainer__max_epochs": 4,
    "optim__ema_decay": 0.9,
    "augment": {"mixup": 0.0},
}


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (3, 1)])
def test_resumed_at_another_world_size_a_run_takes_the_same_global_batches(
    before: int,
    after: int,
    ranks: "Ranks",
    fault: "type[Fault]",
    write_config: "Write",
    run_at: "Find",
):
    whole, moved = write_config("whole", **FIELDS), write_config("moved", **FIELDS)
    assert ranks(1, "train", whole) == [0]
    expected = ranks.batches(1)

    # The last rank alone is asked to stop, within an epoch: all stop at the same step.
    codes = ranks(before, "train", moved, fault=fault("term", before - 1, 4))
    assert codes == [75] * before, ranks.said(0)
    first = ranks.batches(before)
    step = run_at("moved").load()["rsdl"]["position"]["step"]
    assert list(first) == list(range(step)) and step < len(expected)
    assert ranks(after, "train", moved) == [0] * after, ranks.said(0)
    second = ranks.batches(after)

    assert list(second) == list(range(step, len(expected)))
    assert first | second == expected
    record = run_at("moved").record
    assert record["ledger"] == run_at("whole").record["ledger"]
    assert all(entry["balanced"] for entry in record["ledger"])
    assert (record["status"], record["device_count"]) == ("completed", after)
    for one, two in zip(run_at("whole").rows, run_at("moved").rows, strict=True):
        for name in ("train_loss", "val_loss"):
            if one[name]:
                assert float(two[name]) == pytest.approx(float(one[name]), rel=2e-3), (one, two)


def test_three_processes_score_as_one_to_the_last_digit(
    rsdl: "Rsdl", ranks: "Ranks", write_config: "Write", run_at: "Find"
):
    # 9 samples to validate in batches of 6: the last one is padded, and no padding is counted.
    fields = FIELDS | {"trainer__max_epochs": 1, "data__eval_batch_size": 6}
    assert ranks(3, "train", write_config("run", **fields)) == [0, 0, 0], ranks.said(0)
    run = run_at("run")
    by_three = json.loads((run.folder / "report.json").read_text())
    assert rsdl("evaluate", run.folder).returncode == 0
    by_one = json.loads((run.folder / "report.json").read_text())
    assert by_three["num_samples"] == by_one["num_samples"] == 9
    for name in ("oa", "kappa", "macro_f1", "balanced_accuracy", "top5"):
        assert by_one["metrics"][name] == by_three["metrics"][name]
    assert by_one["confusion"] == by_three["confusion"]


def test_asked_to_stop_in_validation_all_ranks_stop_and_go_on(
    ranks: "Ranks", fault: "type[Fault]", write_config: "Write", run_at: "Find"
):
    fields = FIELDS | {"data__eval_batch_size": 2, "trainer__max_epochs": 2}
    config = write_config("run", **fields)
    codes = ranks(2, "train", config, fault=fault("term", 1, 3, "validation"))
    assert codes == [75, 75], ranks.said(0)
    assert run_at("run").record["status"] == "preempted"
    assert ranks(2, "train", config) == [0, 0], ranks.said(0)
    assert [row["epoch"] for row in run_at("run").rows if row["val_loss"]] == ["0", "1"]
    assert all(entry["balanced"] for entry in run_at("run").record["ledger"])


def test_accumulating_and_saving_by_the_clock_ranks_stop_at_one_step(
    ranks: "Ranks", fault: "type[Fault]", write_config: "Write", run_at: "Find"
):
    fields = FIELDS | {"data__batch_size": 12, "trainer__accumulate": 3, "data__tail": "pad"}
    config = write_config("run", checkpoint__every_minutes=1e-6, **fields)
    codes = ranks(2, "train", config, fault=fault("term", 1, 3))
    assert codes == [75, 75], ranks.said(0)
    steps = run_at("run").load()["rsdl"]["position"]["step"]
    assert list(ranks.batches(2)) == list(range(steps))
    assert ranks(1, "train", config) == [0], ranks.said(0)
    assert [entry["delivered"] for entry in run_at("run").record["ledger"]] == [18] * 4
