"""The benchmark of training steps runs from end to end on the CPU, and its aims can be missed."""

import argparse

import pytest
import torch

from benchmarks.peers.step_task import StepTask, Trainee, draw_batches
from benchmarks.peers.train_ours import RsdlTrain
from benchmarks.peers.train_timm import TimmScript
from benchmarks.trainer import step_runner as step_turns
from benchmarks.trainer.gpu import add_arguments, make_table, run
from benchmarks.trainer.step_runner import CONTENDERS, OURS, PLAIN, TIMM, Record, choose_steps
from benchmarks.trainer.step_timer import Turn

CPU = torch.device("cpu")


def task_of(batch_size: int = 4, steps: int = 3) -> StepTask:
    return StepTask("test_resnet", 32, batch_size, steps, CPU)


@pytest.mark.filterwarnings("ignore")
def test_all_that_need_no_compiler_train():
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    options = parser.parse_args(
        ["--models", "test_resnet", "--image-size", "32", "--batch-size", "4",
         "--contenders", OURS, TIMM, PLAIN]
    )  # fmt: skip
    options.rounds, options.quick = 2, True
    (table,) = run(options)["tables"]
    assert [row["name"] for row in table["rows"]] == [OURS, TIMM, PLAIN]
    assert all(len(row["values"]) == 2 and min(row["values"]) > 0 for row in table["rows"])
    assert "% of bf16 peak" not in table["rows"][0]["facts"]
    assert [aim["text"] for aim in table["aims"]] == [
        "images/s of rsdl train over timm script", "images/s of rsdl train over plain Lightning"
    ]  # fmt: skip


def test_a_contender_goes_on_where_its_last_turn_has_ended():
    trainee = RsdlTrain(task_of(), draw_batches(task_of()))
    for turn in (1, 2):
        step_turns.take_turn(trainee, task_of())
        assert trainee.session.trainer.global_step == turn * task_of().num_steps
    entries = trainee.session.recorder.record.ledger
    assert [entry.balanced for entry in entries] == [True, True]
    trainee.close()


def test_ours_and_timms_see_the_same_images():
    batches = draw_batches(task_of())
    images, _ = TimmScript(task_of(), batches)._fetch(0)
    trainee = RsdlTrain(task_of(), batches)
    session = trainee.session
    ours, _ = session.module.augment(next(iter(session.data.train_dataloader())), training=False)
    trainee.close()
    assert torch.allclose(ours, images, atol=5e-3)


def test_a_batch_grows_while_it_pays_and_fits(monkeypatch: pytest.MonkeyPatch):
    class Fake:
        def close(self) -> None:
            """Nothing."""

    def speed(rates: dict[int, float]) -> None:
        def take(trainee: Trainee, task: StepTask) -> Turn:
            if task.batch_size not in rates:
                raise torch.OutOfMemoryError
            seconds = task.batch_size * task.steps / rates[task.batch_size]
            return Turn(task.steps, seconds, 0.0, 0)

        monkeypatch.setattr(step_turns, "RsdlTrain", lambda task, batches: Fake())
        monkeypatch.setattr(step_turns, "take_turn", take)

    speed({32: 100.0, 64: 150.0, 128: 152.0, 256: 300.0})
    assert step_turns.find_batch_size(task_of(32)) == (64, pytest.approx(150.0))
    speed({32: 100.0, 64: 150.0})
    assert step_turns.find_batch_size(task_of(32)) == (64, pytest.approx(150.0))
    speed({})
    with pytest.raises(SystemExit, match="--batch-size"):
        step_turns.find_batch_size(task_of(32))
    assert [choose_steps(64, rate) for rate in (10, 1600, 1e6)] == [10, 50, 100]


def test_a_gpus_figures_stand_in_the_table_and_aims_are_missed_where_ours_is_behind():
    turns = {OURS: 1.1, TIMM: 1.0}
    records = {
        name: Record([Turn(10, seconds, 0.5, 8_000_000_000)] * 2, 8_000_000_000)
        for name, seconds in turns.items()
    }
    records[PLAIN] = Record(note="out of memory")
    table = make_table("resnet50", task_of(256), records, 24_000_000_000, 989.5)
    facts = table.row(TIMM).facts
    assert facts["% of bf16 peak"] == pytest.approx(100 * 2560 * 24e9 / 989.5e12)
    assert facts["peak GB"] == 8.0
    assert not table.row(PLAIN).values
    (aim,) = table.aims
    assert not aim.met
    records[OURS] = records[TIMM]
    assert make_table("resnet50", task_of(256), records, 1, None).aims[0].met


def test_every_contender_has_a_file_that_says_what_it_follows():
    modules = {getattr(build, "func", build).__module__ for build in CONTENDERS.values()}
    assert modules == {f"benchmarks.peers.train_{name}" for name in ("ours", "timm", "lightning")}
