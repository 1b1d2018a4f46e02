"""Student's t distribution: intervals of a mean and paired differences of few seeds or folds.

Folds share training data, so their results vary less than those of independent training sets. As
Nadeau and Bengio (2003) propose, the variance of their mean has ``overlap``, the ratio of held-out
to training data, added to ``1/n``; for seeds it is 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Paired differences and their t test.

    Attributes:
        n: Number of pairs.
        mean: Mean difference.
        half_width: Half the 95% confidence interval of the mean; ``None`` like ``p``.
        p: Two-sided p-value; ``None`` if all differences are equal, where t is not defined.
    """

    n: int
    mean: float
    half_width: float | None
    p: float | None


def paired_test(
    left: Sequence[float], right: Sequence[float], *, overlap: float = 0.0
) -> PairedTest:
    """Return the paired t test of two samples (Student 1908).

    Args:
        left: At least two values.
        right: The value of the same pair for each of them.
        overlap: Ratio of held-out to training data of folds, ``1 / (N - 1)``; 0 for seeds.
    """
    differences = [a - b for a, b in zip(left, right, strict=True)]
    mean, error = fmean(differences), standard_error(differences, overlap)
    if error < 1e-12:  # equal up to the rounding of the subtraction
        return PairedTest(len(differences), mean, None, None)
    p = two_sided_p(mean / error, len(differences) - 1)
    return PairedTest(len(differences), mean, mean_half_width(differences, overlap=overlap), p)


def mean_half_width(
    values: Sequence[float], *, confidence: float = 0.95, overlap: float = 0.0
) -> float:
    """Return half the confidence interval of the mean of at least two normal values."""
    return t_quantile(confidence, len(values) - 1) * standard_error(values, overlap)


def standard_error(values: Sequence[float], overlap: float = 0.0) -> float:
    """Return the standard error of the mean of at least two values."""
    return stdev(values) * math.sqrt(1 / len(values) + overlap)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for being several (Holm 1979), in the given order."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def two_sided_p(t: float, dof: int) -> float:
    """Return the probability that ``|T| >= |t|`` with ``dof`` degrees of freedom."""
    return _incomplete_beta(dof / 2, 0.5, dof / (dof + t * t))


def t_quantile(confidence: float, dof: int) -> float:
    """Return the ``t`` with ``|T| < t`` at a probability of ``confidence``, by bisection."""
    low, high = 0.0, 1.0
    while two_sided_p(high, dof) > 1 - confidence:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        if two_sided_p(middle, dof) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """Return the regularized incomplete beta function, by its continued fraction.

    Abramowitz and Stegun 26.5.8, evaluated as in Lentz 1976; it converges quickly for ``x`` below
    ``(a + 1) / (a + b + 2)``, and the symmetry ``I_x(a, b) = 1 - I_(1-x)(b, a)`` gives the rest.
    """
    if x <= 0 or x >= 1:
        return min(max(x, 0.0), 1.0)
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(b, a, 1 - x)
    log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    front = math.exp(a * math.log(x) + b * math.log1p(-x) - log_beta) / a
    value, c, d = 1.0, 1.0, 0.0
    for step in range(400):
        m = step // 2
        if step == 0:
            term = 1.0
        elif step % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1 / _not_zero(1 + term * d)
        c = _not_zero(1 + term / c)
        value *= c * d
        if step and abs(c * d - 1) < 1e-15:
            break
    return front * (value - 1)


def _not_zero(value: float) -> float:
    return value if abs(value) > 1e-300 else 1e-300
