"""Exact binomial intervals with a fractional sample size, in plain Python (no scipy at run time)."""

from __future__ import annotations

import math
from collections.abc import Callable


def clopper_pearson(successes: float, trials: float, confidence: float) -> tuple[float, float]:
    """The exact interval of a proportion; `successes` and `trials` may be fractions (an effective sample size)."""
    tail = (1.0 - confidence) / 2.0
    failures = trials - successes
    low = 0.0 if successes <= 0 else beta_quantile(tail, successes, failures + 1.0)
    high = 1.0 if failures <= 0 else beta_quantile(1.0 - tail, successes + 1.0, failures)
    return low, high


def student_quantile(probability: float, freedom: float) -> float:
    """Quantile of Student's t at `probability` above one half."""
    tail = 2.0 * (1.0 - probability)
    share = beta_quantile(tail, freedom / 2.0, 0.5)
    return math.sqrt(freedom * (1.0 - share) / share)


def beta_quantile(probability: float, a: float, b: float) -> float:
    """x with I_x(a, b) = probability, by bisection (monotone, so it cannot fail to converge)."""
    return _bisect(lambda x: incomplete_beta(x, a, b), probability)


def incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularized incomplete beta function I_x(a, b) for a, b > 0."""
    if x <= 0.0:
        return 0.0
    if x >= 1.0:
        return 1.0
    if x > (a + 1.0) / (a + b + 2.0):  # the continued fraction converges fast only below this point
        return 1.0 - incomplete_beta(1.0 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(log_front) / (a * _continued_fraction(x, a, b))


def _continued_fraction(x: float, a: float, b: float) -> float:
    """Denominator 1 + d_1 x / (1 + d_2 x / (1 + ...)) of the incomplete beta function, evaluated from the far end.

    The number of terms needed grows with the square root of the larger parameter; 60 more is ample for 1e-12.
    """
    value = 1.0
    for n in range(60 + 4 * int(math.sqrt(max(a, b))), 0, -1):
        half = n // 2
        if n % 2 == 0:
            term = half * (b - half) * x / ((a + 2 * half - 1) * (a + 2 * half))
        else:
            term = -(a + half) * (a + b + half) * x / ((a + 2 * half) * (a + 2 * half + 1))
        value = 1.0 + term / value
    return value


def _bisect(function: Callable[[float], float], target: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(80):
        middle = (low + high) / 2.0
        if function(middle) < target:
            low = middle
        else:
            high = middle
    return (low + high) / 2.0
