import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsdl.evaluate import formatting

WORDINGS = (
    formatting.count, formatting.compact, formatting.size, formatting.percent, formatting.decimal,
    formatting.hours, formatting.duration,
)  # fmt: skip


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_what_is_no_number_is_a_dash(value: float | None) -> None:
    assert {wording(value) for wording in WORDINGS} == {formatting.DASH}


@given(st.floats(0, 1e18))
def test_every_number_is_written_in_a_few_characters(value: float) -> None:
    assert len(formatting.compact(value)) <= 11
    assert all(formatting.DASH not in wording(value) for wording in WORDINGS)


@pytest.mark.parametrize(
    ("wording", "value", "expected"),
    [
        (formatting.compact, 23_551_061, "23.6 M"),
        (formatting.compact, 1_725_500_000, "1.73 B"),
        (formatting.compact, 999_999, "1.00 M"),
        (formatting.compact, 9_999, "9,999"),
        (formatting.size, 124_740_000_000_000, "125 TB"),
        (formatting.size, 512, "512 B"),
        (formatting.percent, 0.9174, "91.7%"),
        (formatting.duration, 3725, "1 h 2 min"),
        (formatting.duration, 86_400 * 3, "3 d"),
        (formatting.duration, 59.7, "1 min"),
        (formatting.duration, 2.34, "2.3 s"),
        (formatting.hours, 5400, "1.5 h"),
        (formatting.decimal, -0.25, "\u22120.250"),
        (formatting.moment, "2026-03-02T09:11:09+01:00", "2026-03-02 08:11 UTC"),
        (formatting.moment, "yesterday", "yesterday"),
        (formatting.text, None, formatting.DASH),
        (formatting.text, "", formatting.DASH),
    ],
)
def test_numbers_read_as_people_write_them(wording, value, expected) -> None:  # noqa: ANN001
    assert wording(value) == expected
