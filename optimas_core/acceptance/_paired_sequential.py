"""The default gate: a paired, group-sequential sign-flip test with early stopping on both sides.

At each look (a geometric schedule of item counts) the sum of paired differences S is compared with the sums of B
sign-flipped paths that went through the same earlier looks. The observed path is one of B + 1 exchangeable paths under
the null; at look j at most alpha * (n_j / n)**3.5 of them may have been accepted so far, the most extreme first. So the test
is exact for any distribution of |d|, with ties, at any n and with any B: P(accept | null) <= alpha.

The futility rule belongs to the test (it is "binding"): flipped paths that it would stop are gone for later looks, so
their share of alpha goes to those that are left. That is sound because a verdict is a pure function of the scores: nobody can
go on after the rule said stop. It gives back what early stopping costs (docs/design/0002-gate.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from optimas_core.acceptance._sign_flips import RESOLUTION, SignFlips, Sums, to_units
from optimas_core.acceptance._spending import look_schedule, spent_by
from optimas_core.acceptance._verdict import Decision, Evidence, ScorePair, weigh

FUTILITY_START, FUTILITY_SLOPE = 1.90, -0.50
"""Standard errors that the futility gain must lie above the observed mean, at the start and per fraction of items."""
USUAL_VARIANCE, LEAST_PATIENCE, MOST_PATIENCE = 0.24, 0.5, 1.6
"""Patience grows with the variance of the differences: 1 where an edit moves 24 % of the items fully, within these limits."""
HOPE = 0.8
"""Share of the final critical value, scaled to the items so far, below which going on as until now has no hope."""


@dataclass(frozen=True)
class PairedSequentialGate:
    """See the module docstring. `futility_gain` is a share of the metric's range; `flips` the least number of paths."""

    items: int = 350
    first_look: int = 32
    max_missing: float = 0.2
    futility_gain: float = 0.10
    flips: int = 10_000

    def first_items(self, available: int) -> int:
        return look_schedule(self.first_look, min(self.items, available))[0]

    def decide(
        self,
        pairs: Sequence[ScorePair],
        *,
        alpha: float,
        available: int,
        metric_range: tuple[float, float],
        seed: int,
    ) -> Decision:
        """Replays every look that `pairs` covers; the first look that ends the test gives the verdict.

        Raises:
            MetricError: a score that is not finite.
            ValueError: alpha outside [0, 1), or no item available.
        """
        if not 0 <= alpha < 1:
            raise ValueError(f"alpha must lie in [0, 1), not {alpha}")
        if available < 1:
            raise ValueError("a gate needs at least one validation item")
        total = min(self.items, available)
        looks = look_schedule(self.first_look, total)
        width = metric_range[1] - metric_range[0]
        paths = 8 * math.ceil(max(self.flips, min(20 / alpha, 100_000) if alpha else 0) / 8)
        flips = SignFlips(paths, seed)
        alive = np.ones(paths, dtype=bool)
        accepted, seen, observed, observed_past, energy, spent = 0, 0, 0, 0, 0.0, 0.0
        past: Sums = np.zeros(paths, dtype=np.int64)
        for look in looks:
            evidence = weigh(pairs[:look], metric_range)
            missing = evidence.n_missing
            if len(pairs) < look:
                return evidence.decide("continue", look, f"not clear yet: {look} items are wanted in all")
            units = to_units(evidence.differences[seen:], width)
            seen, observed = evidence.n_pairs, observed + int(units.sum())
            energy += float(np.square(units.astype(np.float64)).sum())
            sums = flips.extend(units)
            if self._outage(missing, look, total):
                return evidence.decide("indecisive", look, f"{missing} of {look} pairs are missing", alpha_spent=spent)
            if missing > self.max_missing * look:
                continue  # too much missing for a verdict at this look; later items may repair the share
            spent = alpha  # charged in full from here on, whatever happens
            # Of two paths with equal sums the one that was ahead earlier is the more extreme: with binary scores ties
            # are so many that without this a part of alpha would go unused (measured: .0047 instead of .0057 of .0083).
            past, observed_past = past + sums, observed_past + observed
            tie_break = 0.49 / (RESOLUTION * sum(looks))
            keys, observed_key = sums + tie_break * past, observed + tie_break * observed_past
            as_extreme = accepted + 1 + int(np.count_nonzero(alive & (keys >= observed_key)))
            p_value = as_extreme / (paths + 1)
            allowed = math.floor(spent_by(alpha, look / total) * (paths + 1))
            if observed > 0 and as_extreme <= allowed:
                return evidence.decide("accept", look, _better(evidence, p_value, alpha), alpha_spent=spent, p_value=p_value)
            if look == total:
                reason = f"no significant gain after all {look} items"
                return evidence.decide("reject", look, reason, alpha_spent=spent, p_value=p_value)
            bar = self._futility_bar(seen, energy, look / total, alpha)
            if observed < bar:
                reason = f"stopped early after {look} items: no hope of a significant gain (p {p_value:.2f})"
                return evidence.decide("reject", look, reason, alpha_spent=spent, p_value=p_value)
            crossed = alive & (sums > 0) & (keys > _boundary(keys[alive], observed_key, allowed - accepted))
            accepted += int(np.count_nonzero(crossed))
            alive &= ~crossed & (sums >= bar)
        raise AssertionError("the last look always ends the test")

    def _outage(self, missing: int, look: int, total: int) -> bool:
        """No verdict can come any more, or more than half of what was asked for is missing."""
        return missing > self.max_missing * total or 2 * missing > look or missing == look

    def _futility_bar(self, n: int, energy: float, fraction: float, alpha: float) -> float:
        """Sums below the bar are given up. It is the lower of two lines, so both must agree that there is no hope:
        the futility gain is implausible (its distance in standard errors), and going on as until now would not
        end in an acceptance. The second keeps small but steady gains, which the first alone would give up."""
        variance = max(energy, 2.0 * RESOLUTION**2) / n  # never surer than after two items of the largest difference
        patience = min(max(variance / (USUAL_VARIANCE * RESOLUTION**2), LEAST_PATIENCE), MOST_PATIENCE)
        reach = (FUTILITY_START + FUTILITY_SLOPE * fraction) * math.sqrt(patience)
        implausible = n * self.futility_gain * RESOLUTION - reach * math.sqrt(variance * n)
        critical_z = -HOPE * NormalDist().inv_cdf(alpha) if alpha > 0 else math.inf
        return min(implausible, critical_z * math.sqrt(energy * fraction) if energy > 0 else math.inf)


def _boundary(alive_keys: NDArray[np.float64], observed_key: float, allowed: int) -> float:
    """Paths above the boundary are accepted at this look: at most `allowed`, the observed one among the candidates."""
    if allowed <= 0:
        return math.inf
    candidates = np.append(alive_keys, observed_key)
    if allowed >= len(candidates):
        return -math.inf
    place = len(candidates) - 1 - allowed
    return float(np.partition(candidates, place)[place])


def _better(evidence: Evidence, p_value: float, alpha: float) -> str:
    mean = math.fsum(evidence.differences) / evidence.n_pairs
    return f"better by {mean:.3f} on {evidence.n_pairs} paired items (p {p_value:.4f}, level {alpha:.4f})"
