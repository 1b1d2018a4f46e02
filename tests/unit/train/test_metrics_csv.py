"""Rows of metrics.csv, and what is read off them."""

from hypothesis import given
from hypothesis import strategies as st

from rsdl.train.metrics_csv import (
    COLUMNS,
    Row,
    format_rows,
    has_stalled,
    parse_rows,
    rows_before,
    summarize_validations,
)

numbers = st.floats(allow_nan=False, allow_infinity=False)


def validations(*scores: float | None) -> list[Row]:
    """Return two training rows and one validation row for each epoch."""
    rows: list[Row] = []
    for epoch, score in enumerate(scores):
        rows += [{"epoch": epoch, "step": 2 * epoch + k, "train_loss": 1.0} for k in (1, 2)]
        rows.append({"epoch": epoch, "step": 2 * epoch + 2, "val_loss": 0.5, "val_oa": score})
    return rows


@given(st.lists(st.dictionaries(st.sampled_from(COLUMNS), numbers, min_size=1), max_size=5))
def test_every_number_reads_back_exactly(rows: list[Row]):
    found = parse_rows(format_rows(rows))
    assert [{k: v for k, v in row.items() if v is not None} for row in found] == rows


def test_rows_before_a_step_are_kept_and_its_validation_as_asked():
    rows = validations(0.1, 0.2, 0.3)
    assert rows_before(rows, 0, validated=True) == []
    assert rows_before(rows, 4, validated=True) == rows[:6]
    assert rows_before(rows, 4, validated=False) == rows[:5]
    assert rows_before(rows, 3, validated=False) == rows[:4]
    assert rows_before(rows, 9, validated=False) == rows


def test_the_first_of_equally_good_validations_is_the_best():
    found = summarize_validations(validations(0.1, 0.7, 0.7, None), "oa")
    assert found["best"]["epoch"] == 1 and found["best"]["oa"] == 0.7
    assert found["final"]["epoch"] == 3 and found["final"]["oa"] is None
    assert found["final"]["loss"] == 0.5
    assert summarize_validations(validations()[:2], "oa") == {}


def test_a_run_stalls_after_so_many_validations_that_are_not_better():
    assert not has_stalled(validations(0.5, 0.4, 0.4), "oa", None)
    assert not has_stalled(validations(0.5, 0.4), "oa", 2)
    assert has_stalled(validations(0.5, 0.4, 0.5), "oa", 2)
    assert not has_stalled(validations(0.5, 0.4, 0.6), "oa", 2)
    assert not has_stalled([], "oa", 1)
