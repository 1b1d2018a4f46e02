"""Killed at any moment and started again, a run ends as if nothing had happened."""

import random
import signal
from collections.abc import Callable
from typing import Any

import pytest

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
    variant: str, rsdl: Any, write_config: Any, run_at: Any, compare_runs: Callable[..., None]
):
    fields = VARIANTS[variant] | {"checkpoint__every_minutes": 1e-4}
    whole = write_config("whole", **fields)
    killed = write_config("killed", **fields)
    assert rsdl("train", whole).returncode == 0
    moments, deaths = random.Random(variant), 0
    while (ended := rsdl("train", killed, die=moments.randint(10, 120))).returncode:
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        deaths += 1
        assert deaths < 100
    assert deaths >= 5
    compare_runs(run_at("whole"), run_at("killed"))
    record = run_at("killed").record
    assert record["ledger"] and all(entry["balanced"] for entry in record["ledger"])
    assert record["resumes"] <= deaths
    assert not [name for name in run_at("killed").names if ".part-" in name]
