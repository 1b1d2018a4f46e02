"""A completed run of more epochs goes on, at the learning rates of its new length."""

from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.conftest import differences, refusal

if TYPE_CHECKING:
    from tests.integration.conftest import Compare, Find, Rsdl, Write

pytestmark = pytest.mark.slow


def test_at_a_constant_rate_an_extended_run_is_bit_equal_to_one_that_was_longer_at_once(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find", compare_runs: "Compare"
):
    fields: dict[str, Any] = {"optim__schedule": "constant", "optim__ema_decay": 0.9}
    once = write_config("once", trainer__max_epochs=4, **fields)
    twice = write_config("twice", trainer__max_epochs=2, **fields)
    assert rsdl("train", once).returncode == 0
    assert rsdl("train", twice).returncode == 0
    steps = run_at("twice").record["optimizer_steps"]
    ended = rsdl("train", twice, "trainer.max_epochs=4")
    assert ended.returncode == 0, ended.stderr
    assert f"extending a completed run of {steps} steps to {2 * steps} (4 epochs)" in ended.stdout
    assert "optim.schedule=constant does not depend on the length" in ended.stdout
    compare_runs(run_at("once"), run_at("twice"))
    assert run_at("twice").record["extended_at"] == [steps]
    assert run_at("twice").record["epochs_planned"] == 4
    assert "is completed" in rsdl("train", twice, "trainer.max_epochs=4").stdout
    assert "max_epochs 4 -> 2" in refusal(rsdl("train", twice))


def test_the_cosine_is_that_of_the_new_length_from_the_first_step_on(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find"
):
    # At the end of the old cosine the rate is 0, which would leave the weights as they are.
    fields: dict[str, Any] = {"optim__min_lr": 0, "checkpoint__every_minutes": 1e-4}
    once = write_config("once", trainer__max_epochs=4, **fields)
    twice = write_config("twice", trainer__max_epochs=2, checkpoint__keep=50, **fields)
    assert rsdl("train", once).returncode == 0
    assert rsdl("train", twice).returncode == 0
    steps, before = run_at("twice").record["optimizer_steps"], run_at("twice").load()
    assert rsdl("train", twice, "trainer.max_epochs=4", die=60).returncode == -9
    ended = rsdl("train", twice, "trainer.max_epochs=4")
    assert ended.returncode == 0, ended.stderr
    rates = [
        {int(row["step"]): row["lr"] for row in run_at(name).rows if row["train_loss"]}
        for name in ("once", "twice")
    ]
    assert {s: lr for s, lr in rates[0].items() if s > steps} == {
        s: lr for s, lr in rates[1].items() if s > steps
    }
    assert rates[0][steps] != rates[1][steps] == "0"
    after = run_at("twice").load(f"step-{steps + 1:09d}")
    moved = differences(before["state_dict"], after["state_dict"])
    assert any("weight" in name for name in moved), moved


def test_what_is_no_extension_is_refused_with_what_may_change(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find"
):
    config = write_config("run", trainer__max_epochs=2, trainer__max_steps=2)
    assert rsdl("train", config).returncode == 0
    said = refusal(rsdl("train", config, "trainer.max_epochs=4", "optim.lr=1"))
    assert "trainer.max_epochs 2 -> 4" in said and "optim.lr 0.002 -> 1" in said
    assert "data.{url,cache," in said and "trainer.max_steps may grow" in said
    assert "2 -> 1" in refusal(rsdl("train", config, "trainer.max_epochs=1"))
    said = refusal(rsdl("train", config, "trainer.max_epochs=4"))
    assert said.startswith("trainer.max_steps: ends the run at step 2, which it has reached")
    # In the midst of an epoch: its end is validated, too, and the best is one of all validations.
    ended = rsdl("train", config, "trainer.max_steps=null")
    assert ended.returncode == 0, ended.stderr
    validations = [row for row in run_at("run").rows if not row["train_loss"]]
    assert [row["epoch"] for row in validations] == ["0", "0", "1"]
    assert all(entry["balanced"] for entry in run_at("run").record["ledger"])


def test_a_run_that_ended_early_by_itself_is_not_extended(rsdl: "Rsdl", write_config: "Write"):
    config = write_config("run", trainer__patience=1, trainer__max_epochs=8, optim__lr=1e-9)
    assert rsdl("train", config).returncode == 0
    said = refusal(rsdl("train", config, "trainer.max_epochs=9"))
    assert "cannot extend a run that trainer.patience=1 has ended after" in said
