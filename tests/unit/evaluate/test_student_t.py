"""Student's t against printed tables, and Holm's adjustment against its own example."""

from math import atan, pi, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsdl.evaluate.student_t import holm, mean_half_width, paired_test, t_quantile, two_sided_p


@pytest.mark.parametrize(
    ("confidence", "dof", "t"),
    [
        (0.95, 1, 12.706), (0.95, 2, 4.303), (0.95, 4, 2.776), (0.95, 9, 2.262), (0.95, 30, 2.042),
        (0.95, 120, 1.980), (0.90, 5, 2.015), (0.99, 9, 3.250), (0.999, 3, 12.924),
    ],
)  # fmt: skip
def test_quantiles_are_those_of_the_table(confidence: float, dof: int, t: float):
    assert t_quantile(confidence, dof) == pytest.approx(t, abs=5e-4)
    assert two_sided_p(t, dof) == pytest.approx(1 - confidence, rel=1e-3)


@given(st.floats(0, 50), st.integers(1, 2))
def test_p_values_are_those_of_the_closed_forms(t: float, dof: int):
    # One degree of freedom is the Cauchy distribution; two have a root.
    exact = 1 - 2 * atan(t) / pi if dof == 1 else 1 - t / sqrt(2 + t * t)
    assert two_sided_p(t, dof) == two_sided_p(-t, dof) == pytest.approx(exact, abs=1e-7)


def test_the_paired_test_is_the_one_that_student_published():
    # Student (1908), section IX: hours of sleep gained by ten patients with two drugs.
    left = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    right = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    test = paired_test(left, right)
    assert (test.n, test.mean) == (10, pytest.approx(1.58))
    assert test.p == pytest.approx(0.002833, abs=1e-6)
    assert test.half_width == pytest.approx((2.4598858 - 0.7001142) / 2, abs=1e-6)
    assert mean_half_width(left) == pytest.approx(2.262157 * 2.002249 / 10**0.5, abs=1e-5)


def test_folds_are_less_certain_than_seeds_by_what_their_training_data_shares():
    left, right = [0.91, 0.94, 0.93, 0.97, 0.92], [0.90, 0.91, 0.93, 0.94, 0.92]
    plain, folds = paired_test(left, right), paired_test(left, right, overlap=1 / 4)
    # Nadeau and Bengio (2003): 1/5 + 1/4 in place of 1/5.
    assert folds.half_width == pytest.approx(plain.half_width * (0.45 / 0.2) ** 0.5)
    assert folds.mean == plain.mean and folds.p > plain.p
    t = t_quantile(1 - plain.p, 4) / 1.5
    assert folds.p == pytest.approx(two_sided_p(t, 4))


def test_equal_differences_have_no_p_value():
    test = paired_test([0.91, 0.93, 0.95], [0.9, 0.92, 0.94])
    assert (test.p, test.half_width) == (None, None)
    assert test.mean == pytest.approx(0.01)


def test_p_values_are_adjusted_for_their_number():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
