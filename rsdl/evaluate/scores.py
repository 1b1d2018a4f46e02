"""Confidence intervals."""

import math


def wilson_interval(successes: int, trials: int, *, z: float = 1.96) -> tuple[float, float]:
    """Return the score interval of a proportion (Wilson 1927); 95% with the default ``z``.

    Args:
        successes: ``0 <= successes <= trials``.
        trials: At least 1.
        z: Quantile of the standard normal distribution.

    Returns:
        Low and high end, ``0 <= low <= successes / trials <= high <= 1``.
    """
    share, weight = successes / trials, z * z / trials
    centre = (share + weight / 2) / (1 + weight)
    half = z * math.sqrt(share * (1 - share) / trials + weight / (4 * trials)) / (1 + weight)
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))
