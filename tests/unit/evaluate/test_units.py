import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsdl.evaluate import units

WORDINGS = (
    units.count, units.compact, units.size, units.percent, units.decimal, units.hours,
    units.duration,
)  # fmt: skip


@given(
    st.one_of(st.none(), st.booleans(), st.text(), st.sampled_from([float("nan"), float("inf")]))
)
def test_what_is_no_number_is_a_dash(value: object) -> None:
    assert {wording(value) for wording in WORDINGS} == {units.DASH}


@given(st.floats(0, 1e18))
def test_every_number_is_written_in_a_few_characters(value: float) -> None:
    assert len(units.compact(value)) <= 11
    assert all(units.DASH not in wording(value) for wording in WORDINGS)


@pytest.mark.parametrize(
    ("wording", "value", "expected"),
    [
        (units.compact, 23_551_061, "23.6 M"),
        (units.compact, 1_725_500_000, "1.73 B"),
        (units.compact, 999_999, "1.00 M"),
        (units.compact, 9_999, "9,999"),
        (units.size, 124_740_000_000_000, "125 TB"),
        (units.size, 512, "512 B"),
        (units.percent, 0.9174, "91.7%"),
        (units.duration, 3725, "1 h 2 min"),
        (units.duration, 86_400 * 3, "3 d"),
        (units.duration, 59.7, "1 min"),
        (units.duration, 2.34, "2.3 s"),
        (units.hours, 5400, "1.5 h"),
        (units.decimal, -0.25, "\u22120.250"),
        (units.moment, "2026-03-02T09:11:09+01:00", "2026-03-02 08:11 UTC"),
        (units.moment, "yesterday", "yesterday"),
        (units.moment, None, units.DASH),
        (units.text, ["red", "nir"], "red, nir"),
        (units.text, True, "yes"),
    ],
)
def test_numbers_read_as_people_write_them(wording, value, expected) -> None:  # noqa: ANN001
    assert wording(value) == expected
