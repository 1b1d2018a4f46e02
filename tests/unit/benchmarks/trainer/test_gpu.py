"""The benchmark of training steps runs from end to end on the CPU."""

import argparse

import pytest
import torch

from benchmarks.trainer import step_runner
from benchmarks.trainer.gpu import add_arguments, make_table, run
from benchmarks.trainer.peers.rsdl_train import RsdlTrain
from benchmarks.trainer.peers.timm_script import TimmScript
from benchmarks.trainer.step_runner import OURS, PLAIN, TIMM, TRAINERS, Record, Turn, choose_steps
from benchmarks.trainer.step_task import StepTask, StepTrainer, draw_batches

CPU = torch.device("cpu")


def task_of(batch_size: int = 4, steps: int = 3) -> StepTask:
    return StepTask("test_resnet", 32, batch_size, steps, CPU)


@pytest.mark.filterwarnings("ignore")
def test_all_that_need_no_compiler_train():
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    options = parser.parse_args(
        ["--models", "test_resnet", "--image-size", "32", "--batch-size", "4",
         "--trainers", OURS, TIMM, PLAIN]
    )  # fmt: skip
    options.rounds, options.quick = 2, True
    (table,) = run(options)["tables"]
    assert [row["name"] for row in table["rows"]] == [OURS, TIMM, PLAIN]
    assert all(len(row["values"]) == 2 and min(row["values"]) > 0 for row in table["rows"])
    assert "% of bf16 peak" not in table["rows"][0]["facts"]


def test_a_trainer_goes_on_where_its_last_turn_has_ended():
    trainer = RsdlTrain(task_of(), draw_batches(task_of()))
    for turn in (1, 2):
        step_runner.take_turn(trainer, task_of())
        assert trainer.session.trainer.global_step == turn * task_of().num_steps
    entries = trainer.session.recorder.record.ledger
    assert [entry.balanced for entry in entries] == [True, True]
    trainer.close()


def test_ours_and_timms_see_the_same_images():
    batches = draw_batches(task_of())
    images, _ = TimmScript(task_of(), batches)._fetch(0)
    trainer = RsdlTrain(task_of(), batches)
    session = trainer.session
    ours, _ = session.module.augment(next(iter(session.data.train_dataloader())), training=False)
    trainer.close()
    assert torch.allclose(ours, images, atol=5e-3)


def test_a_batch_grows_while_it_pays_and_fits(monkeypatch: pytest.MonkeyPatch):
    class Fake:
        def close(self) -> None:
            """Nothing."""

    def speed(rates: dict[int, float]) -> None:
        def take(trainer: StepTrainer, task: StepTask) -> Turn:
            if task.batch_size not in rates:
                raise torch.OutOfMemoryError
            seconds = task.batch_size * task.steps / rates[task.batch_size]
            return Turn(task.steps, seconds, 0.0, 0)

        monkeypatch.setattr(step_runner, "RsdlTrain", lambda task, batches: Fake())
        monkeypatch.setattr(step_runner, "take_turn", take)

    speed({32: 100.0, 64: 150.0, 128: 152.0, 256: 300.0})
    assert step_runner.find_batch_size(task_of(32)) == (64, pytest.approx(150.0))
    speed({32: 100.0, 64: 150.0})
    assert step_runner.find_batch_size(task_of(32)) == (64, pytest.approx(150.0))
    speed({})
    with pytest.raises(SystemExit, match="--batch-size"):
        step_runner.find_batch_size(task_of(32))
    assert [choose_steps(64, rate) for rate in (10, 1600, 1e6)] == [10, 50, 100]


def test_the_figures_of_a_gpu_are_in_the_table():
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


def test_every_trainer_has_a_file():
    modules = {getattr(build, "func", build).__module__ for build in TRAINERS.values()}
    peers = ("rsdl_train", "timm_script", "plain_lightning")
    assert modules == {f"benchmarks.trainer.peers.{name}" for name in peers}
