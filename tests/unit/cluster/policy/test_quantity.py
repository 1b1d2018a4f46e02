from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsdl.cluster.policy.quantity import SUFFIXES, parse_quantity, show_amount

WHOLE = st.integers(0, 10**15)


def kept(amount: Fraction) -> Fraction:
    """Return an amount as Kubernetes keeps it: to a billionth, rounded away from zero."""
    size = min(Fraction(-(-abs(amount) * 10**9 // 1), 10**9), Fraction(2**63 - 1))
    return size if amount >= 0 else -size


@given(WHOLE, WHOLE, st.sampled_from([*SUFFIXES, ""]), st.sampled_from(["", "+", "-"]))
def test_a_number_and_a_suffix_multiply(whole: int, part: int, suffix: str, sign: str):
    number = Fraction(f"{whole}.{part}")
    wanted = number * SUFFIXES.get(suffix, Fraction(1)) * (-1 if sign == "-" else 1)
    assert parse_quantity(f"{sign}{whole}.{part}{suffix}") == kept(wanted)


@given(WHOLE, st.integers(-30, 30), st.sampled_from("eE"))
def test_an_exponent_is_one_of_ten(whole: int, exponent: int, letter: str):
    wanted = whole * Fraction(10) ** exponent
    assert parse_quantity(f"{whole}{letter}{exponent}") == kept(wanted)


@given(st.integers(-(10**12), 10**12), st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_of_yaml_is_the_same_as_its_text(whole: int, real: float):
    assert parse_quantity(whole) == parse_quantity(str(whole)) == whole
    assert parse_quantity(real) == parse_quantity(repr(real)) == kept(Fraction(repr(real)))


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
