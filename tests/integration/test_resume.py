"""Killed at any moment and started again, a run ends as if nothing had happened."""

import random
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import timm
from safetensors.torch import save_file

if TYPE_CHECKING:
    from tests.integration.conftest import Compare, Find, Rsdl, Write

pytestmark = pytest.mark.slow

# Every feature that keeps state or draws numbers appears in one of these.
VARIANTS: dict[str, dict[str, Any]] = {
    "mixing": {
        "model__drop_rate": 0.3,
        "model__drop_path_rate": 0.2,
        "data__num_workers": 3,
        "trainer__accumulate": 2,
        "augment": {"mixup": 0.2, "cutmix": 1.0, "brightness": 0.2},
        "optim__ema_decay": 0.9,
        "task__label_smoothing": 0.1,
    },
    "balanced": {
        "data__tail": "pad",
        "data__sampling": "balanced",
        "data__batch_size": 5,
        "data__window": 2,
        "optim__name": "sgd",
        "optim__schedule": "step",
        "optim__decay_epochs": 1,
        "optim__freeze_epochs": 1,
        "trainer__patience": 1,
        "trainer__max_epochs": 5,
        "checkpoint__keep": 3,
    },
    "layers": {
        "model__name": "test_vit",
        "data__batch_size": 6,
        "data__decode": "device",
        "data__partitions": 2,
        "optim__name": "lamb",
        "optim__layer_decay": 0.7,
        "optim__clip_grad": 1.0,
        "optim__schedule": "constant",
        "trainer__max_epochs": 4,
        "trainer__max_steps": 7,
        "trainer__log_every_steps": 2,
    },
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_killed_at_any_moment_a_run_ends_bit_equal(
    variant: str, rsdl: "Rsdl", write_config: "Write", run_at: "Find", compare_runs: "Compare"
):
    fields = VARIANTS[variant] | {"checkpoint__every_minutes": 1e-4}
    whole = write_config("whole", **fields)
    killed = write_config("killed", **fields)
    assert rsdl("train", whole).returncode == 0
    moments, all_deaths = random.Random(variant), 0
    while all_deaths < 20:
        deaths = rsdl.train_through_deaths(killed, moments, (10, 90))
        compare_runs(run_at("whole"), run_at("killed"))
        record = run_at("killed").record
        assert record["ledger"] and all(entry["balanced"] for entry in record["ledger"])
        assert record["resumes"] <= deaths
        assert not [name for name in run_at("killed").names if ".part-" in name]
        all_deaths += deaths


def test_killed_by_the_clock_a_run_ends_bit_equal(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find", compare_runs: "Compare"
):
    fields = {"checkpoint__every_minutes": 1e-4, "trainer__max_epochs": 6}
    whole, killed = write_config("whole", **fields), write_config("killed", **fields)
    assert rsdl("train", whole).returncode == 0
    moments, deaths = random.Random(3), 0
    while True:
        command = rsdl.start("train", killed)
        if deaths < 8:
            time.sleep(moments.uniform(0.15, 0.6))
            command.kill()
        ended = command.wait()
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        deaths += 1
    compare_runs(run_at("whole"), run_at("killed"))


def test_same_seed_gives_the_same_numbers_and_another_does_not(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find", compare_runs: "Compare"
):
    fields = VARIANTS["mixing"]
    for name, seed in (("one", 4), ("two", 4), ("other", 5)):
        config = write_config(name, **fields, seed=seed, trainer__max_steps=5)
        assert rsdl("train", config).returncode == 0
    compare_runs(run_at("one"), run_at("two"))
    assert run_at("one").rows != run_at("other").rows


def test_number_of_threads_does_not_change_the_numbers(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find", compare_runs: "Compare"
):
    fields = VARIANTS["mixing"] | {"trainer__max_steps": 5}
    for name, threads in (("one", 1), ("five", 5)):
        config = write_config(name, **fields | {"data__num_workers": threads})
        assert rsdl("train", config).returncode == 0
    compare_runs(run_at("one"), run_at("five"))


def test_resuming_with_other_accumulation_reads_the_same_samples(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find"
):
    config = write_config("run", checkpoint__every_minutes=1e-4, data__batch_size=4)
    assert rsdl("train", config, die=100).returncode == -signal.SIGKILL
    step = run_at("run").load()["rsdl"]["position"]["step"]
    assert 0 < step < 12
    assert rsdl("train", config, "trainer.accumulate=2").returncode == 0
    record = run_at("run").record
    assert record["optimizer_steps"] == 12
    assert [entry["delivered"] for entry in record["ledger"]] == [16] * 3
    assert all(entry["balanced"] for entry in record["ledger"])
    assert len({entry["fingerprint"] for entry in record["ledger"]}) == 3  # 16 of 18 samples


def test_a_run_goes_on_with_the_normalisation_that_it_was_begun_with(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find", tmp_path: Path
):
    weights = tmp_path / "w.safetensors"
    save_file(timm.create_model("test_efficientnet").state_dict(), weights)
    fields: dict[str, Any] = {"model__weights": str(weights), "trainer__max_epochs": 1}
    config = write_config("old", **fields)
    assert rsdl("train", config, "data.normalize=dataset").returncode == 0
    written = run_at("old").folder / "config.yaml"
    # As a release left it that did not have the field.
    lines = [line for line in written.read_text().splitlines(True) if "normalize" not in line]
    written.write_text("".join(lines))

    again = rsdl("train", config)
    assert again.returncode == 0 and "is completed" in again.stdout, again
    longer = rsdl("train", config, "trainer.max_epochs=2")
    assert longer.returncode == 0 and "normalised by the data set" in longer.stdout, longer
    assert "normalize: dataset" in written.read_text()
    refused = rsdl("train", config, "data.normalize=weights")
    assert refused.returncode == 2 and "data.normalize dataset -> weights" in refused.stderr

    new = rsdl("train", write_config("new", **fields))
    assert new.returncode == 0 and "by the weights of test_efficientnet" in new.stdout, new
