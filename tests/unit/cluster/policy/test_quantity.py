from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsdl.cluster.policy.quantity import parse_quantity, show_amount

WHOLE = st.integers(0, 10**15)


@given(st.text() | st.none() | st.booleans() | st.lists(st.integers()))
def test_anything_else_is_none_and_no_crash(value: object):
    found = parse_quantity(value)
    assert found is None or (isinstance(value, str) and any(c.isdigit() for c in value))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("500m", Fraction(1, 2)),
        ("1.5", Fraction(3, 2)),
        (".5", Fraction(1, 2)),
        ("5.", Fraction(5)),
        ("64Mi", 64 * 2**20),
        ("32Gi", 32 * 2**30),
        ("1E", 10**18),
        ("1Ei", 2**60),
        ("1E3", 1000),
        ("1e-3", Fraction(1, 1000)),
        ("19GB", None),
        ("2K", None),
        ("34 Gi", None),
        ("1,5", None),
        ("gi", None),
        ("1e", None),
        ("1_000", None),
        ("٣", None),
        ("", None),
        ("0x10", None),
        ("1e999999999999", None),
        ("1e999", 2**63 - 1),
        ("-1E", -(10**18)),
        ("1e-99", Fraction(1, 10**9)),
        (float("nan"), None),
        (float("inf"), None),
        (True, None),
        (4, 4),
        (0.5, Fraction(1, 2)),
        ("-1.5Mi", Fraction(-3 * 2**19)),
        ("1n", Fraction(1, 10**9)),
        ("0.1n", Fraction(1, 10**9)),
    ],
)
def test_it_is_read_as_kubernetes_does(text: object, wanted: object):
    assert parse_quantity(text) == wanted


@given(st.integers(0, 2**45), st.booleans())
def test_what_is_shown_is_no_more_than_what_is_meant(amount: int, binary: bool):
    shown = parse_quantity(show_amount(Fraction(amount), binary=binary))
    assert shown is not None and shown <= amount < shown + max(shown / 16, 1)


@given(st.integers(1, 10**6))
def test_cores_are_shown_to_the_thousandth(thousandths: int):
    assert parse_quantity(show_amount(Fraction(thousandths, 1000))) == Fraction(thousandths, 1000)
