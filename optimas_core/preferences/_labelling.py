"""Preference pairs from recorded scores: a pure function that does not depend on the scores' order (paper, section 4.1, step 3-4)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from optimas_core.canonical import canonical_json


@dataclass(frozen=True, slots=True)
class ScoredCandidate:
    """A candidate output with the rewards of its rollouts; missing rollouts are not in `rewards`."""

    labels: tuple[str, ...]
    output: Mapping[str, Any]
    rewards: tuple[float, ...]

    @property
    def mean(self) -> float | None:
        """Monte Carlo estimate of E_downstream[R | y_k] (Eq. 3); None without a single reward."""
        return math.fsum(self.rewards) / len(self.rewards) if self.rewards else None


@dataclass(frozen=True, slots=True)
class LabelledPair:
    chosen: ScoredCandidate
    rejected: ScoredCandidate
    se_chosen: float
    se_rejected: float


def label_pairs(candidates: Sequence[ScoredCandidate], *, min_gap_se: float, deterministic: bool) -> list[LabelledPair]:
    """Every pair of candidates whose means differ by more than the noise; the higher mean is y+.

    Ties, and gaps below `min_gap_se` standard errors of the difference, give no pair. Where the downstream components are
    deterministic one rollout is exact and its standard error is 0. With fewer than two rollouts of a stochastic system the
    error is unknown: no pair.
    """
    ordered = sorted((item for item in candidates if item.rewards), key=lambda item: canonical_json(item.output))
    pairs = []
    for left, right in combinations(ordered, 2):
        se_left, se_right = standard_error(left.rewards, deterministic), standard_error(right.rewards, deterministic)
        gap = (left.mean or 0.0) - (right.mean or 0.0)
        noise = math.hypot(se_left, se_right)
        if gap == 0 or not math.isfinite(noise) or abs(gap) <= min_gap_se * noise:
            continue
        better, worse = (left, right) if gap > 0 else (right, left)
        errors = (se_left, se_right) if gap > 0 else (se_right, se_left)
        pairs.append(LabelledPair(better, worse, *errors))
    return pairs


def standard_error(rewards: Sequence[float], deterministic: bool) -> float:
    """Standard error of a mean of Monte Carlo rollouts; 0 where repeats are identical by construction, infinite when unknown."""
    if deterministic:
        return 0.0
    count = len(rewards)
    if count < 2:
        return math.inf
    mean = math.fsum(rewards) / count
    return math.sqrt(math.fsum((reward - mean) ** 2 for reward in rewards) / (count - 1) / count)
