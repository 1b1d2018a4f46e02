"""The table of a study as values and as text."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rsdl.cluster.jobs import Snapshot
from rsdl.cluster.states import JobState, Phase
from rsdl.commands.runs import Runs
from rsdl.commands.sweep.rows import STALE_AFTER_S, Row, make_rows, remaining_s
from rsdl.commands.sweep.table import sum_up, to_cells
from rsdl.records.run_record import LedgerEntry, RunRecord
from tests.run_records import make_record

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def record(**fields: Any) -> RunRecord:  # noqa: ANN401
    return make_record(**({"updated_at": NOW.isoformat()} | fields))


def entry(epoch: int, planned: int = 100) -> LedgerEntry:
    return LedgerEntry(epoch=epoch, split="train", planned=planned, delivered=planned, padded=0,
                       skipped=0, fingerprint="f", balanced=True)  # fmt: skip


def row_of(found: RunRecord, state: JobState | None = None) -> Row:
    snapshot = None if state is None else Snapshot({state.name: state}, {})
    (row,) = make_rows({}, snapshot, Runs({"cnn_ucm": found}), NOW)
    return row


def test_time_left_goes_by_the_pace_so_far():
    assert remaining_s(record(wall_s=50.0), 10) is None
    assert remaining_s(record(epochs_completed=5, wall_s=50.0), 10) == 50.0
    half = record(epochs_completed=1, optimizer_steps=15, ledger=[entry(0)], wall_s=30.0)
    assert remaining_s(half, 10) == pytest.approx(30.0 / 1.5 * 8.5)
    odd = record(epochs_completed=1, optimizer_steps=11, ledger=[entry(0, 101)], wall_s=10.0)
    assert remaining_s(odd, 10) == pytest.approx(
        90.0
    )  # a last batch that is not full is a step, too
    early = record(status="completed", epochs_completed=4, wall_s=9.0)  # trainer.patience
    assert row_of(early).eta_s == 0.0


@pytest.mark.parametrize(
    ("status", "age_s", "state", "stale"),
    [
        ("running", STALE_AFTER_S + 1, None, True),
        ("running", STALE_AFTER_S - 1, None, False),
        ("completed", 1e6, None, False),
        ("preempted", 1e6, None, False),
        ("running", 1e6, JobState("cnn-ucm", Phase.RUNNING, config="cnn_ucm", has_pods=True),
         False),
        ("running", 1e6, JobState("cnn-ucm", Phase.FAILED, config="cnn_ucm"), True),
        ("running", 1e6, JobState("other", Phase.RUNNING, config="cnn_ucm_2"), True),
    ],
)  # fmt: skip
def test_stale_is_what_says_running_and_nobody_is_at(
    status: str, age_s: float, state: JobState | None, stale: bool
):
    at = (NOW - timedelta(seconds=age_s)).isoformat()
    found = record(status=status, updated_at=at)
    snapshot = None if state is None else Snapshot({state.name: state}, {})
    rows = make_rows({}, snapshot, Runs({"cnn_ucm": found}), NOW)
    (row,) = [row for row in rows if row.run == "cnn_ucm"]
    assert (row.status == "stale") == stale
    assert not stale or "last written" in row.note


def test_a_time_without_zone_or_sense_does_no_harm():
    assert row_of(record(updated_at="2026-01-01T23:59:00")).age_s == 60
    assert row_of(record(status="running", updated_at="soon")).status == "stale"


def test_a_pod_without_its_job_is_the_row_of_its_run():
    left = JobState("cnn-ucm", Phase.ENDING, has_pods=True)
    assert row_of(record(), left).cluster == "ending"


def test_what_an_index_of_a_job_trains_is_no_other_run():
    index = JobState("hrrsi-indexed[3]", Phase.RUNNING, config="cnn_ucm")
    configs = {"hrrsi-cnn-ucm": "cnn_ucm", "hrrsi-vit-ucm": "vit_ucm"}
    first, second = make_rows(configs, Snapshot({index.name: index}, {}), None, NOW)
    assert (first.run, first.job, first.cluster) == ("cnn_ucm", "hrrsi-indexed[3]", "running")
    assert (second.run, second.job, second.cluster) == ("vit_ucm", "hrrsi-vit-ucm", "absent")
    own = JobState("hrrsi-cnn-ucm", Phase.PENDING, config="cnn_ucm")
    both = Snapshot({own.name: own, index.name: index}, {})
    assert make_rows(configs, both, None, NOW)[0].job == "hrrsi-cnn-ucm"


def test_cells_say_what_is_not_known():
    assert to_cells(Row("a", "a", "unknown")) == ("a", "-", "-", "-", "-", "-", "-", "-")
    cells = to_cells(Row("a", "a", "running", "running", epochs=3, epochs_planned=9,
                         eta_s=11_100.0, score=0.5, gpu=0.934))  # fmt: skip
    assert cells == ("a", "running", "running", "3/9", "3h5min", "50.00%", "0", "93%")


def test_every_run_is_counted_once():
    rows = [
        Row("a", "a", "absent"), Row("b", "b", "failed", "completed"), Row("c", "c", "running"),
        Row("d", "d", "succeeded", "running"), Row("e", "e", "unknown", "stale"),
    ]  # fmt: skip
    assert sum_up(rows) == (
        "5 runs: 2 completed, 1 running, 1 stale, 1 to go; 0.0 device-hours so far"
    )
