from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsdl.data.sources.splits import split_groups

FRACTIONS = (0.7, 0.15, 0.15)
GROUPS = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=4),
    st.dictionaries(st.integers(0, 4), st.integers(1, 50), min_size=1),
    min_size=3,
    max_size=30,
)


def shares(groups: dict[str, dict[int, int]], splits: dict[str, str], label: int) -> Counter[str]:
    """Return how many samples of a class are in each split."""
    found: Counter[str] = Counter()
    for name, counts in groups.items():
        found[splits[name]] += counts.get(label, 0)
    return found


@given(groups=GROUPS, seed=st.integers(0, 3), fractions=st.sampled_from([FRACTIONS, (0.5, 0, 0.5)]))
def test_every_group_has_one_split_and_no_wanted_split_is_empty(
    groups: dict[str, dict[int, int]], seed: int, fractions: tuple[float, ...]
):
    splits = split_groups(groups, fractions, seed)
    assert splits.keys() == groups.keys()
    wanted = {
        name for name, share in zip(("train", "val", "test"), fractions, strict=True) if share
    }
    assert set(splits.values()) == wanted


@given(groups=GROUPS, seed=st.integers(0, 3), data=st.data())
def test_the_order_of_groups_does_not_count(
    groups: dict[str, dict[int, int]], seed: int, data: st.DataObject
):
    shuffled = dict(data.draw(st.permutations(list(groups.items()))))
    assert split_groups(shuffled, FRACTIONS, seed) == split_groups(groups, FRACTIONS, seed)


@given(groups=GROUPS, seed=st.integers(0, 3))
def test_train_has_every_class_unless_others_need_the_groups(
    groups: dict[str, dict[int, int]], seed: int
):
    splits = split_groups(groups, FRACTIONS, seed)
    in_train = {label for name in groups if splits[name] == "train" for label in groups[name]}
    every = {label for counts in groups.values() for label in counts}
    # Covering all classes takes a group for each at most; two groups are for val and test.
    assert in_train == every or len(groups) < len(every) + 2


@pytest.mark.parametrize("seed", range(5))
def test_many_small_groups_give_each_class_its_share_in_each_split(seed: int):
    random = np.random.default_rng(seed)
    groups = {
        f"g{number}": {
            label: int(random.integers(1, 10)) for label in random.choice(6, 2, replace=False)
        }
        for number in range(300)
    }
    splits = split_groups(groups, FRACTIONS, seed)
    for label in range(6):
        found = shares(groups, splits, label)
        for split, share in zip(("train", "val", "test"), FRACTIONS, strict=True):
            assert found[split] / found.total() == pytest.approx(share, abs=0.02)


def test_a_class_of_one_group_is_trained_on():
    groups = {f"g{number}": {0: 100} for number in range(20)} | {"rare": {0: 1, 1: 3}}
    assert all(split_groups(groups, FRACTIONS, seed)["rare"] == "train" for seed in range(20))


def test_another_seed_gives_another_split():
    groups = {f"g{number}": {number % 3: 10} for number in range(30)}
    found = {tuple(sorted(split_groups(groups, FRACTIONS, seed).items())) for seed in range(5)}
    assert len(found) == 5


def test_a_split_is_the_same_on_every_machine():
    groups = {f"g{number}": {number % 3: 7 + number, 3: 1} for number in range(9)}
    expected = ["test", "test", "test", "val", "val", "val", "train", "train", "train"]
    assert list(split_groups(groups, FRACTIONS, 5).values()) == expected


@pytest.mark.parametrize("seed", range(5))
def test_a_class_of_three_groups_has_one_in_each_split(seed: int):
    groups = {f"c{label}-{n}": {label: 100} for label in range(10) for n in range(3)}
    splits = split_groups(groups, (0.8, 0.1, 0.1), seed)
    for label in range(10):
        found = shares(groups, splits, label)
        assert found == {"train": 100, "val": 100, "test": 100}
