"""Has something moved since it was recorded? The gate's own test, asked in the direction down, or in both.

Two draws of one configuration on one item are exchangeable where nothing moved, however the item was selected: their difference is
symmetric about 0, which is all that the sign-flip test asks for. Draws on two different items are so only if nothing was selected on
either side; where the items of now were, scores of now are rather too high, and a fall is seen too seldom, never too often.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from optimas_core.acceptance._intervals import paired_difference_interval
from optimas_core.acceptance._paired_sequential import PairedSequentialGate
from optimas_core.acceptance._verdict import CONFIDENCE, ScorePair


@dataclass(frozen=True, slots=True)
class Movement:
    """What the items so far say. `difference` is now minus then, with its interval at 95 %; all None without a complete pair.

    `next_items` is how many items are wanted in all while `kind` is "continue".
    """

    kind: Literal["continue", "fell", "rose", "same", "indecisive"]
    next_items: int
    then: float | None
    now: float | None
    difference: float | None
    low: float | None
    high: float | None
    n_pairs: int
    n_missing: int


def partners(recorded: Collection[str], items: Sequence[str], seed: int) -> list[tuple[str, str]]:
    """(item, recorded item) in the order of `items`: partners drawn at random, none twice, and as many as both sides have."""
    others = sorted(recorded)
    random.Random(seed).shuffle(others)
    return list(zip(items, others, strict=False))


def movement(
    gate: PairedSequentialGate,
    pairs: Sequence[ScorePair],
    *,
    alpha: float,
    available: int,
    metric_range: tuple[float, float],
    seed: int,
    both: bool = True,
) -> Movement:
    """The test on (then, now) pairs, in item order. Without any movement it says "fell" or "rose" with probability `alpha` at most.

    `both`: a rise counts too, and each direction has half of `alpha`. Call it with all pairs so far until it no longer says "continue".

    Raises:
        MetricError, ValueError: as the gate.
    """
    level = alpha / 2 if both else alpha

    def ask(judged: Sequence[ScorePair]) -> tuple[str, int]:
        decision = gate.decide(judged, alpha=level, available=available, metric_range=metric_range, seed=seed)
        return decision.kind, decision.next_items

    # The gate asks whether its second score is the better one: then against now is a fall.
    answers = {"fell": ask([(now, then) for then, now in pairs])} | ({"rose": ask(pairs)} if both else {})
    complete = [(then, now) for then, now in pairs if then is not None and now is not None]
    kinds = {direction: kind for direction, (kind, _) in answers.items()}
    next_items = max(items for _, items in answers.values())
    found: Literal["continue", "fell", "rose", "same", "indecisive"] = "same"
    if kinds["fell"] == "accept":
        found = "fell"
    elif kinds.get("rose") == "accept":
        found = "rose"
    elif "continue" in kinds.values():
        found = "continue"
    elif "indecisive" in kinds.values():
        found = "indecisive"
    if not complete:
        return Movement(found, next_items, None, None, None, None, None, 0, len(pairs))
    differences = [now - then for then, now in complete]
    interval = paired_difference_interval(differences, confidence=CONFIDENCE, width=metric_range[1] - metric_range[0])
    n = len(complete)
    then_mean, now_mean = (math.fsum(side) / n for side in zip(*complete, strict=True))
    mean = math.fsum(differences) / n
    return Movement(found, next_items, then_mean, now_mean, mean, interval.low, interval.high, n, len(pairs) - n)
