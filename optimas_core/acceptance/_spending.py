"""How the run's false-accept probability is shared out: over iterations, and over the looks of one test.

Over iterations: the level of a test is (alpha - charged) / (iterations left, this one included). It is known before the
test's data are seen, so the union bound holds:

- an iteration that does not test (the local step keeps the incumbent) is charged nothing; its share goes to later ones;
- a test that ends in `reject` or `indecisive` is charged its level in full (nothing if an outage ended it before any look);
- a test that ends in `accept` is charged nothing. If that acceptance was right, no false accept was risked by it; if it
  was false, the run's one error has happened already. So before the first false accept every test of a null edit was
  charged in full, the charges never exceed alpha, and P(any false accept) <= alpha (the argument of Holm and of the
  fallback procedure).

What is NOT done: crediting a test that stopped early for futility with the part of its level that later looks would have
spent. Nearly every null test stops early, but only those that do not can be accepted: the credit would come from the
very paths that cannot err, and 30 such tests would accept falsely with probability near 1 - (1 - alpha)**30.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from optimas_core.acceptance._verdict import Verdict

_LOOK_RATIO = 1.3
_SPENDING_POWER = 3.5


@dataclass(frozen=True)
class TestedLevel:
    """One finished test of the run: its verdict and `Decision.alpha_spent`."""

    __test__ = False  # the name is a record, not a test class

    verdict: Verdict
    alpha_spent: float


def charged_level(past: Sequence[TestedLevel]) -> float:
    """The part of the run's alpha that is gone after `past` tests."""
    return math.fsum(test.alpha_spent for test in past if test.verdict != "accept")


def next_level(alpha: float, past: Sequence[TestedLevel], iterations_left: int) -> float:
    """Level of the next test; `iterations_left` counts the iteration that is about to test.

    Raises:
        ValueError: alpha outside (0, 1) or no iteration left.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, not {alpha}")
    if iterations_left < 1:
        raise ValueError(f"iterations_left must be at least 1, not {iterations_left}")
    return max(alpha - charged_level(past), 0.0) / iterations_left


def look_schedule(first_look: int, items: int) -> tuple[int, ...]:
    """Item counts at which a test looks: geometric from `first_look` to `items`, each about 1.3 times the last.

    32 and 350 give 32, 42, 54, 71, 93, 121, 158, 206, 268, 350: ten looks waste fewer items than five and cost no power.
    """
    if items <= first_look:
        return (items,)
    steps = 1
    while items / first_look > _LOOK_RATIO ** (steps + 0.5):
        steps += 1
    ratio = (items / first_look) ** (1 / steps)
    return tuple(dict.fromkeys([*(round(first_look * ratio**j) for j in range(steps)), items]))


def spent_by(alpha: float, fraction: float) -> float:
    """Level that may be spent when `fraction` of the items is in: the power family, rho = 3.5 (Jennison and Turnbull).

    Between an even f = t (costs 3 points of power at a gain of 10 points) and t^5, close to O'Brien and Fleming's (finds
    a gain of 20 points a quarter later); measured in docs/design/0002-gate.md.
    """
    return float(alpha * min(max(fraction, 0.0), 1.0) ** _SPENDING_POWER)
