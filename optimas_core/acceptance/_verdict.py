"""What a gate says: go on measuring, or one of three verdicts with the figures behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from optimas_core.acceptance._intervals import paired_difference_interval
from optimas_core.errors import MetricError

Verdict = Literal["accept", "reject", "indecisive"]
ScorePair = tuple[float | None, float | None]
"""(incumbent, challenger) on one item; None is a missing score, never a number."""

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Decision:
    """One answer of a gate.

    `next_items` is the total of paired items wanted (for a verdict: the items that were looked at, missing ones
    included). `low` and `high` bound the mean difference at `confidence`, not corrected for early stopping.
    `alpha_spent` is the level this test is charged: all of it as soon as one look was judged, however early the verdict
    (_spending.py says why); 0 while it continues, for the strict rule, and after an outage before the first look.
    `p_value` counts earlier looks too: an acceptance always has p_value <= the level of the test.
    """

    kind: Literal["continue", "accept", "reject", "indecisive"]
    next_items: int
    difference: float | None
    low: float | None
    high: float | None
    n_pairs: int
    n_missing: int
    alpha_spent: float
    p_value: float | None
    reason: str
    confidence: float = CONFIDENCE

    @property
    def verdict(self) -> Verdict | None:
        """The verdict, or None while the gate wants more items."""
        return None if self.kind == "continue" else self.kind


@dataclass(frozen=True)
class Evidence:
    """The complete pairs of a prefix of the items."""

    differences: tuple[float, ...]
    n_missing: int
    width: float

    @property
    def n_pairs(self) -> int:
        return len(self.differences)

    def decide(
        self,
        kind: Literal["continue", "accept", "reject", "indecisive"],
        next_items: int,
        reason: str,
        *,
        alpha_spent: float = 0.0,
        p_value: float | None = None,
    ) -> Decision:
        """The Decision with this evidence's mean difference and interval (None without a complete pair)."""
        difference = low = high = None
        if self.differences:
            interval = paired_difference_interval(self.differences, confidence=CONFIDENCE, width=self.width)
            # fsum is the exactly rounded sum: the same in every order of the items.
            difference, low, high = math.fsum(self.differences) / self.n_pairs, interval.low, interval.high
        return Decision(
            kind=kind,
            next_items=next_items,
            difference=difference,
            low=low,
            high=high,
            n_pairs=self.n_pairs,
            n_missing=self.n_missing,
            alpha_spent=alpha_spent,
            p_value=p_value,
            reason=reason,
        )


def weigh(pairs: Sequence[ScorePair], metric_range: tuple[float, float]) -> Evidence:
    """Split `pairs` into differences (challenger - incumbent) and missing pairs.

    Raises:
        MetricError: a score that is NaN or infinite (a missing score is None), or an empty metric range.
    """
    width = metric_range[1] - metric_range[0]
    if not (math.isfinite(width) and width > 0):
        raise MetricError(f"metric range {metric_range} is not an interval.", remedy="Give (low, high) with low < high.")
    differences = []
    for incumbent, challenger in pairs:
        if incumbent is None or challenger is None:
            known = challenger if incumbent is None else incumbent
            finite = known is None or math.isfinite(known)
        else:
            differences.append(challenger - incumbent)
            finite = math.isfinite(challenger) and math.isfinite(incumbent)
        if not finite:
            raise MetricError(
                f"scores ({incumbent}, {challenger}) cannot be compared.",
                remedy="A failed item is missing (None), never a number.",
            )
    return Evidence(tuple(differences), len(pairs) - len(differences), width)
