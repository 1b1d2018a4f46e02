"""The learning rate may be given for batches of 256."""

from typing import Any

import pytest
import yaml

from rsdl.config.load import to_yaml, validate, validate_written
from rsdl.config.run import RunConfig
from rsdl.core.errors import ConfigErrors


def run_of(batch_size: int | None = None, **optim: Any) -> RunConfig:  # noqa: ANN401
    data: dict[str, Any] = {"url": "u"} | ({"batch_size": batch_size} if batch_size else {})
    return validate({"name": "a", "data": data, "model": {"name": "b"}, "optim": optim})


@pytest.mark.parametrize(
    ("name", "batch_size", "lr"),
    [
        ("adamw", 256, 0.1), ("adamw", 64, 0.05), ("lamb", 1024, 0.2), ("adafactor", 1024, 0.2),
        ("sgd", 64, 0.025), ("sgd", 1024, 0.4), ("lion", 512, 0.2), (None, None, 0.05),
    ],
)  # fmt: skip
def test_it_is_scaled_to_the_global_batch(name: str | None, batch_size: int | None, lr: float):
    optim = {"base_lr": 0.1} | ({"name": name} if name else {})
    assert run_of(batch_size, **optim).optim.lr == pytest.approx(lr)


def test_a_learning_rate_that_is_given_counts():
    assert run_of(64, base_lr=0.1, lr=0.3).optim.lr == 0.3


def test_the_config_of_a_run_says_what_it_became():
    config = run_of(64, base_lr=0.1)
    again = validate_written(yaml.safe_load(to_yaml(config)))
    assert again.optim == config.optim


@pytest.mark.parametrize("base_lr", [-1, 0, "much"])
def test_nonsense_is_one_error(base_lr: object):
    with pytest.raises(ConfigErrors) as caught:
        run_of(64, base_lr=base_lr)
    assert [error.where for error in caught.value.errors] == ["optim.base_lr"]
