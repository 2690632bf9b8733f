"""Confidence intervals for report lines, honest at small n and for scores that are all equal.

Both are Student-t intervals after adding two pseudo-observations (the "plus two" idea of Agresti and Coull for one
proportion, Agresti and Min for matched pairs), placed at the ends of what a score can be. For binary scores that is the
published interval (with t in place of z); for scores inside a range it is somewhat wide, never zero-wide. A percentile
or BCa bootstrap would report [0, 0] where all 20 differences are 0, which claims to know more than 20 items can tell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist


@dataclass(frozen=True)
class Interval:
    low: float
    high: float
    confidence: float


def paired_difference_interval(differences: Sequence[float], *, confidence: float = 0.95, width: float = 1.0) -> Interval:
    """Interval of the mean paired difference; `width` is high - low of the metric's range.

    Half a pseudo-pair at +width, half at -width and one at 0 (Agresti and Min 2005: 0.5 in each cell of the 2x2 table).

    Raises:
        ValueError: no differences, or a confidence outside (0, 1).
    """
    n = _count(differences, confidence) + 2
    mean = math.fsum(differences) / n
    variance = (math.fsum(d * d for d in differences) + width * width) / n - mean * mean
    half = _t_quantile((1 + confidence) / 2, n - 1) * math.sqrt(max(variance, 0.0) / n)
    return Interval(max(mean - half, -width), min(mean + half, width), confidence)


def mean_interval(scores: Sequence[float], *, confidence: float = 0.95, metric_range: tuple[float, float] = (0.0, 1.0)) -> Interval:
    """Interval of the mean of bounded scores: one pseudo-score at each end of the range.

    Raises:
        ValueError: no scores, or a confidence outside (0, 1).
    """
    low, high = metric_range
    n = _count(scores, confidence) + 2
    shifted = [(score - low) / (high - low) for score in scores]
    mean = (math.fsum(shifted) + 1) / n
    variance = (math.fsum(s * s for s in shifted) + 1) / n - mean * mean
    half = _t_quantile((1 + confidence) / 2, n - 1) * math.sqrt(max(variance, 0.0) / n)
    return Interval(low + (high - low) * max(mean - half, 0.0), low + (high - low) * min(mean + half, 1.0), confidence)


def _count(values: Sequence[float], confidence: float) -> int:
    if not values:
        raise ValueError("an interval needs at least one value")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    return len(values)


def _t_quantile(p: float, degrees: int) -> float:
    """Student's t quantile by the Cornish-Fisher expansion (within 1 % for degrees >= 4 at p <= .975; no SciPy needed)."""
    z = NormalDist().inv_cdf(p)
    v = float(degrees)
    return (
        z + (z**3 + z) / (4 * v) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2) + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )
