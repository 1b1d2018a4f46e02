"""Without a validation, as where papers split into train and test alone, the last weights count."""

from typing import TYPE_CHECKING

import pytest
import torch

from tests.integration.conftest import refusal

if TYPE_CHECKING:
    from tests.integration.conftest import Compare, Find, Rsdl, Write

pytestmark = pytest.mark.slow


def test_the_last_weights_are_evaluated_on_test(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find", compare_runs: "Compare"
):
    fields = {"data__val_split": None, "checkpoint__every_minutes": 1e-4}
    config = write_config("plain", trainer__max_epochs=2, **fields)
    ended = rsdl("train", config)
    assert ended.returncode == 0, ended.stderr
    assert "not validated, last weights: test OA" in ended.stdout
    last, best = run_at("plain").load(), run_at("plain").load("best")
    assert last["state_dict"].keys() == best["state_dict"].keys()
    assert all(torch.equal(best["state_dict"][k], v) for k, v in last["state_dict"].items())
    assert "optimizer_states" not in best
    assert all(row["train_loss"] for row in run_at("plain").rows)
    assert list(run_at("plain").record["metrics"]) == ["test"]
    killed = write_config("killed", trainer__max_epochs=2, **fields)
    assert rsdl("train", killed, die=60).returncode == -9
    assert rsdl("train", killed).returncode == 0
    compare_runs(run_at("plain"), run_at("killed"))
    assert rsdl("evaluate", run_at("plain").folder).returncode == 0


def test_what_needs_a_validation_is_refused(rsdl: "Rsdl", write_config: "Write"):
    config = write_config("run", data__val_split=None)
    said = refusal(rsdl("train", config, "trainer.patience=2"))
    assert said.startswith("trainer.patience: needs a validation")
    said = refusal(rsdl("train", config, "data.test_split=holdout"))
    assert said.startswith("data.test_split: ") and 'no split "holdout"' in said
