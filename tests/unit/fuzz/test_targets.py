"""Damaged files end in a value or in an RsdlError, for every reader that is fuzzed."""

from contextlib import suppress

import numpy as np
import pytest

from rsdl.core.errors import DataError, RsdlError
from tests.fuzz.targets import INDEX, TARGETS, mutate


@pytest.mark.parametrize("target", TARGETS)
def test_a_damaged_file_ends_in_a_value_or_an_error_of_ours(target: str) -> None:
    make, read = TARGETS[target]
    origin, rng = make(), np.random.default_rng(1)
    read(origin)
    for _ in range(150):
        with suppress(RsdlError):
            read(mutate(origin, rng))


def test_an_index_whose_header_has_an_open_bracket_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"train.npy: is not a readable index"):
        TARGETS["index"][1](INDEX.replace(b")]", b"  ").replace(b"}", b" "))
