from typing import cast

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from rsdl.core.rng import fingerprint, key_of, permutation, text_keys, to_float32, uniforms

KEY = 321433001908899246742978485945212922440
PERMUTATION = [1, 4, 9, 7, 3, 6, 8, 2, 0, 5]
UNIFORMS = [
    [0.06637605958672355, 0.7030942672877435],
    [0.9178932741127243, 0.4546179333620002],
    [0.48304704631426043, 0.7461408308866718],
]
FINGERPRINT = 10809206848254417909

KEYS = st.integers(0, 2**128 - 1)
DRAWS = st.lists(st.integers(0, 2**40), min_size=1, max_size=20, unique=True)


@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=20),
    parts=st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.integers(), max_size=3),
)
def test_keys_of_many_texts_sort_as_the_keys_of_each(texts: list[str], parts: list[str | int]):
    keys = [int.from_bytes(key, "big") for key in text_keys(texts, *parts)]
    assert keys == [key_of(*parts, text) for text in texts]


@given(key=KEYS, draws=DRAWS, count=st.integers(0, 30))
def test_uniforms_lie_in_the_unit_interval(key: int, draws: list[int], count: int):
    numbers = uniforms(key, np.array(draws), count)
    assert numbers.shape == (len(draws), count)
    assert ((numbers >= 0) & (numbers < 1)).all()


@given(key=KEYS, draws=DRAWS, data=st.data())
def test_a_draws_numbers_do_not_depend_on_the_others(
    key: int, draws: list[int], data: st.DataObject
):
    order = data.draw(st.permutations(range(len(draws))))
    numbers = uniforms(key, np.array(draws), 8)

    shuffled = uniforms(key, np.array(draws)[list(order)], 8)
    alone = uniforms(key, np.array(draws[:1]), 3)

    assert np.array_equal(shuffled, numbers[list(order)])
    assert np.array_equal(alone, numbers[:1, :3])


def test_uniforms_are_uniform_and_unrelated():
    numbers = uniforms(key_of(1, 2, "crop"), np.arange(40_000), 6)

    for column in numbers.T:
        counts = np.histogram(column, bins=20, range=(0, 1))[0]
        # Chi-squared with 19 degrees of freedom: 60 has a chance of 4e-6.
        assert ((counts - 2000) ** 2 / 2000).sum() < 60
    related = np.corrcoef(numbers.T) - np.eye(6)
    assert np.abs(related).max() < 0.03
    assert abs(np.corrcoef(numbers[:-1, 0], numbers[1:, 0])[0, 1]) < 0.03
    other = uniforms(key_of(1, 3, "crop"), np.arange(40_000), 1)
    assert abs(np.corrcoef(numbers[:, 0], other[:, 0])[0, 1]) < 0.03


@given(size=st.integers(0, 300), seed=st.integers(0, 2**64), purpose=st.text(max_size=5))
def test_a_permutation_has_every_number_once(size: int, seed: int, purpose: str):
    assert sorted(permutation(size, seed, purpose)) == list(range(size))


def test_permutations_of_five_are_equally_likely():
    seen, counts = np.unique(
        [permutation(4, seed, "any") for seed in range(4800)], axis=0, return_counts=True
    )
    assert len(seen) == 24
    assert ((counts - 200) ** 2 / 200).sum() < 70  # chi-squared, 23 degrees of freedom


def test_numbers_are_the_same_on_every_machine():
    assert key_of(7, 3, "shards") == KEY
    assert permutation(10, 7, 3, "shards").tolist() == PERMUTATION
    assert uniforms(key_of(7, 3, "crop"), np.array([0, 1, 10**9]), 2).tolist() == UNIFORMS
    assert fingerprint(np.arange(5)) == FINGERPRINT


def test_keys_tell_types_and_purposes_apart():
    keys = [key_of(1, 2), key_of(12), key_of("1", 2), key_of(2, 1), key_of(1, 2, "crop")]
    assert len(set(keys)) == len(keys)
    assert all(0 <= key < 2**128 for key in keys)


def test_a_numpy_integer_is_the_number_that_it_holds():
    assert key_of(cast(int, np.int64(3)), "x") == key_of(3, "x")


@given(draws=st.lists(st.integers(0, 50), max_size=30), data=st.data())
def test_fingerprints_tell_multisets(draws: list[int], data: st.DataObject):
    shuffled = data.draw(st.permutations(draws))
    cut = data.draw(st.integers(0, len(draws)))
    parts = fingerprint(np.array(draws[:cut], int)) + fingerprint(np.array(draws[cut:], int))

    assert fingerprint(np.array(shuffled, int)) == fingerprint(np.array(draws, int))
    assert parts % 2**64 == fingerprint(np.array(draws, int))
    assert fingerprint(np.array([*draws, 7], int)) != fingerprint(np.array(draws, int))


@given(number=st.floats(0, 1, exclude_max=True))
@example(number=1 - 2.0**-53)
def test_single_precision_stays_below_one(number: float):
    rounded = to_float32(np.array([number]))
    assert rounded.dtype == np.float32
    assert 0 <= rounded[0] < 1
    assert abs(float(rounded[0]) - number) < 1e-7
