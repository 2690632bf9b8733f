"""Racing: rollouts are spent where they decide something. A candidate clearly apart from all others gets no more of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

# Standard errors on either side of a mean; two candidates are apart when these intervals do not meet.
INTERVAL_SE = 2.0
MIN_ROLLOUTS = 2


def undecided(rewards: Sequence[Sequence[float]], *, reward_range: float) -> list[int]:
    """Indices of the candidates of one input that need another rollout.

    A candidate is decided when its interval (mean +- 2 standard errors, with the variance pulled towards a prior of a quarter of
    the metric's range so that two equal rollouts do not look certain) meets no other candidate's.
    """
    spans = [_interval(item, reward_range) for item in rewards]
    return [
        index
        for index, (low, high) in enumerate(spans)
        if any(other != index and low <= spans[other][1] and spans[other][0] <= high for other in range(len(spans)))
    ]


def _interval(rewards: Sequence[float], reward_range: float) -> tuple[float, float]:
    count = len(rewards)
    if count < MIN_ROLLOUTS:
        return -math.inf, math.inf
    mean = math.fsum(rewards) / count
    prior = (reward_range / 4) ** 2
    variance = (math.fsum((reward - mean) ** 2 for reward in rewards) + prior) / count
    half = INTERVAL_SE * math.sqrt(variance / count)
    return mean - half, mean + half
