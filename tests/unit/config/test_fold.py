from typing import Any

import pytest

from rsdl.config.fold import parse_fold
from rsdl.config.load import validate
from rsdl.config.run import RunConfig
from rsdl.core.errors import ConfigErrors


def config(name: str = "run", **data: Any) -> RunConfig:  # noqa: ANN401
    return validate({"name": name, "data": {"url": "d"} | data, "model": {"name": "resnet50"}})


@pytest.mark.parametrize("text", ["0/5", "6/5", "1/1", "1/101", "2", "2/", "a/b", "-1/5", "1/5/5"])
def test_what_is_no_fold_is_refused_in_one_line(text: str):
    with pytest.raises(ConfigErrors) as caught:
        config(fold=text)
    wanted = "data.fold: must be K/N with N from 2 to 100 and K from 1 to N, as 2/5, is "
    assert str(caught.value) == f"{wanted}{text!r}"


def test_a_fold_is_read_and_written():
    assert parse_fold("2/5") == (2, 5)
    assert config(fold="02/05").data.fold == "2/5"


def test_each_fold_has_a_name_of_its_own_and_the_same_when_it_is_read_again():
    names = [config(fold=f"{number}/3").name for number in (1, 2, 3)]
    assert names == ["run-fold1of3", "run-fold2of3", "run-fold3of3"]
    assert config(names[1], fold="2/3") == config(fold="2/3")
    assert config().name == "run"


def test_folds_are_different_runs():
    digests = {config(fold=fold).digest for fold in (None, "1/3", "2/3", "1/2")}
    assert len(digests) == 4


@pytest.mark.parametrize("split", [None, "train"])
def test_a_fold_without_a_name_for_its_validation_is_refused(split: str | None):
    with pytest.raises(ConfigErrors, match="data: fold is the part to validate on: val_split must"):
        config(fold="1/2", val_split=split)
