"""Folds of cross-validation: each sample is held out once, groups stay whole, classes are even."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rsdl.config.data import DataConfig
from rsdl.config.fold import Fold
from rsdl.core.errors import ConfigError, DataError
from rsdl.data.dataset import DataSet
from rsdl.data.folds import assign_folds, describe, divide
from rsdl.data.index import Index, Row, pack_rows

Labels = NDArray[np.int64]


@st.composite
def pools(draw: st.DrawFn) -> tuple[Labels, NDArray[np.uint64], int]:
    """Return labels and groups of samples, groups of any size, and a number of folds."""
    count = draw(st.integers(2, 6))
    sizes = draw(st.lists(st.integers(1, 5), min_size=count, max_size=30))
    names = draw(
        st.lists(st.integers(0, 2**64 - 1), min_size=len(sizes), max_size=len(sizes), unique=True)
    )
    groups = np.repeat(np.array(names, np.uint64), sizes)
    labels = draw(st.lists(st.integers(0, 3), min_size=len(groups), max_size=len(groups)))
    order = np.array(draw(st.permutations(range(len(groups)))))
    return np.array(labels)[order], groups[order], count


@given(pools(), st.integers(0, 3))
def test_each_group_is_in_one_fold_and_no_fold_is_empty(
    pool: tuple[Labels, NDArray[np.uint64], int], seed: int
):
    labels, groups, count = pool
    folds = assign_folds(labels, groups, count, seed)
    assert len({*zip(groups.tolist(), folds.tolist(), strict=True)}) == len(np.unique(groups))
    assert np.unique(folds).tolist() == list(range(count))


@given(pools(), st.integers(0, 3), st.data())
def test_the_order_of_samples_does_not_count(
    pool: tuple[Labels, NDArray[np.uint64], int], seed: int, data: st.DataObject
):
    labels, groups, count = pool
    order = np.array(data.draw(st.permutations(range(len(groups)))))
    before = dict(zip(groups.tolist(), assign_folds(labels, groups, count, seed), strict=True))
    after = assign_folds(labels[order], groups[order], count, seed)
    assert dict(zip(groups[order].tolist(), after, strict=True)) == before


@given(st.lists(st.integers(0, 5), min_size=6, max_size=200), st.integers(2, 6), st.integers(0, 3))
def test_samples_that_stand_alone_are_even_in_each_class_and_in_all(
    labels: list[int], count: int, seed: int
):
    folds = assign_folds(np.array(labels), None, count, seed)
    for label in (*set(labels), None):
        held = folds if label is None else folds[np.array(labels) == label]
        sizes = np.bincount(held, minlength=count)
        assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("largest", [2, 9])
def test_many_groups_give_each_class_its_share_in_each_fold(seed: int, largest: int):
    random = np.random.default_rng(seed)
    sizes = random.integers(1, largest + 1, 400)
    groups = np.repeat(np.arange(400, dtype=np.uint64), sizes)
    main = np.repeat(random.integers(0, 4, 400), sizes)  # a scene is mostly of one class
    labels = np.where(random.random(len(main)) < 0.7, main, random.integers(0, 4, len(main)))
    folds = assign_folds(labels, groups, 5, seed)
    for label in range(4):
        shares = np.bincount(folds[labels == label], minlength=5) / (labels == label).sum()
        assert shares == pytest.approx([0.2] * 5, abs=0.01)


def test_large_groups_are_made_up_for_by_samples_that_stand_alone():
    labels = np.zeros(100, int)
    groups = np.arange(100, dtype=np.uint64)
    groups[:18] = 1000  # one scene of 18 tiles
    assert np.bincount(assign_folds(labels, groups, 5, 0)).tolist() == [20] * 5


def test_another_seed_or_number_of_folds_gives_other_folds():
    labels = np.zeros(100, int)
    folds = [assign_folds(labels, None, count, seed) for count, seed in ((2, 0), (2, 1), (4, 0))]
    assert not np.array_equal(folds[0], folds[1])
    # Not a half of each half, either: the folds of two numbers are drawn apart.
    assert not np.array_equal(folds[0], folds[2] // 2) and not np.array_equal(
        folds[0], folds[2] % 2
    )


def index_of(groups: list[int] | None, num: int = 4) -> Index:
    rows = [
        Row(f"s{n}", "npy", 0, 1, 0, 0, n % 2, group=groups[n] if groups else None)
        for n in range(num)
    ]
    return Index(pack_rows(rows), np.array([num]), ["a.tar"])


@pytest.mark.parametrize(
    ("groups", "told"),
    [(None, "only 4 samples to"), ([1, 1, 2, 2], "only 2 groups .*; use K/2"), ([1] * 4, "only 1")],
)
def test_more_folds_than_groups_are_refused(groups: list[int] | None, told: str):
    with pytest.raises(ConfigError, match=f"data.fold: is 1/5, but there are {told}"):
        divide(index_of(groups), Fold(1, 5), 0)


def test_a_class_that_a_part_lacks_is_told():
    parts = divide(index_of([1, 2, 1, 2]), Fold(1, 2), 0)
    lines = describe(parts, Fold(1, 2), ("even", "odd"))
    assert lines[0] == "fold 1/2 of 4 images, in 2 groups: 2 to train, 2 to validate"
    held, left = ("even", "odd") if parts.val.labels[0] == 0 else ("odd", "even")
    assert lines[1:] == [
        f"fold 1/2 has no image to train of: {held}",
        f"fold 1/2 has no image to validate of: {left}",
    ]
    assert len(describe(parts, Fold(1, 2), ())) == 1


def open_fold(url: str, fold: str | None, seed: int = 3, **fields: Any) -> DataSet:  # noqa: ANN401
    return DataSet(DataConfig(url=url, fold=fold, **fields), seed=seed)


def keys_of(data: DataSet, split: str) -> list[str]:
    index = data.split(split, "").index
    return index.keys(np.arange(len(index)))


def test_train_and_val_of_each_fold_are_the_pool_and_test_stays_apart(packed: str):
    whole = open_fold(packed, None)
    pool = sorted(keys_of(whole, "train") + keys_of(whole, "val"))
    held: list[str] = []
    for number in (1, 2, 3):
        data = open_fold(packed, f"{number}/3")
        train, val = keys_of(data, "train"), keys_of(data, "val")
        assert sorted(train + val) == pool
        assert keys_of(data, "test") == keys_of(whole, "test")
        assert keys_of(open_fold(packed, f"{number}/3"), "train") == train
        assert keys_of(open_fold(packed, f"{number}/3", seed=4), "train") != train
        held += val
    assert sorted(held) == pool


def test_a_set_without_a_val_split_is_divided_by_its_train_split(packed: str):
    whole = open_fold(packed, None)
    data = open_fold(packed, "1/3", val_split="held_out")
    assert sorted(keys_of(data, "train") + keys_of(data, "held_out")) == sorted(
        keys_of(whole, "train")
    )
    data.check_split("held_out", "data.val_split")
    with pytest.raises(DataError, match='has no split "elsewhere"'):
        data.check_split("elsewhere", "data.val_split")
    assert data.evaluated_split == "test"
    assert open_fold(packed, "1/3", test_split="gone").evaluated_split == "val"


def test_folds_are_those_of_every_release():
    # A run that is resumed by a later release must find the same parts.
    labels = np.arange(12) % 3
    groups = np.array([1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 8], np.uint64)
    assert assign_folds(labels, groups, 3, 7).tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 1, 1, 2, 0]
    assert assign_folds(labels, None, 3, 7).tolist() == [1, 1, 1, 0, 0, 0, 0, 1, 2, 2, 2, 2]
