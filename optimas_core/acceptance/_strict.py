"""The paper's rule: accept if and only if the challenger's sum of rewards is strictly higher.

Source: Algorithm 1, line 15. It bounds nothing: of ten edits that change nothing it accepts one or two (benchmarks/gate.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from optimas_core.acceptance._verdict import Decision, ScorePair, weigh


@dataclass(frozen=True)
class StrictGate:
    """Compares sums over the complete pairs of the first `items` items; a missing score counts for neither arm."""

    items: int = 20
    max_missing: float = 0.2

    def first_items(self, available: int) -> int:
        return min(self.items, available)

    def decide(
        self,
        pairs: Sequence[ScorePair],
        *,
        alpha: float,
        available: int,
        metric_range: tuple[float, float],
        seed: int,
    ) -> Decision:
        """`alpha` and `seed` are not used by this rule. Raises MetricError for a score that is not finite."""
        wanted = self.first_items(available)
        evidence = weigh(pairs[:wanted], metric_range)
        n, missing = evidence.n_pairs, evidence.n_missing
        if len(pairs) < wanted:
            return evidence.decide("continue", wanted, f"{wanted} paired items are compared at once")
        if n == 0 or missing > self.max_missing * wanted:
            return evidence.decide("indecisive", wanted, f"{missing} of {wanted} pairs are missing")
        if math.fsum(evidence.differences) > 0:
            return evidence.decide("accept", wanted, f"the sum over {n} items is strictly higher (no error bound)")
        return evidence.decide("reject", wanted, f"the sum over {n} items is not strictly higher")
