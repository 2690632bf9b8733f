"""Hyperparameters, tools and model choice: a distribution over the values by local reward, and a draw from it (Appendix F)."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from optimas_core.canonical import canonical_json
from optimas_core.optimizers._proposal import Proposal, Situation
from optimas_core.system import Choice, ModelChoice, NumberGrid


class OtherValues:
    """Proposes every other value of a discrete knob, nearest first for numbers: Eq. 5 is over all of V_k, so there is no count."""

    async def propose(self, situation: Situation) -> list[Proposal]:
        space = situation.component.space[situation.knob]
        if not isinstance(space, Choice | NumberGrid | ModelChoice):
            return []
        now = situation.knobs[situation.knob]
        others = [value for value in space.values if canonical_json(value) != canonical_json(now)]
        if isinstance(space, NumberGrid) and not isinstance(now, Mapping):  # a per-input choice has no nearest value
            others.sort(key=lambda value: (abs(value - now), value))
        return [
            Proposal(situation.component.name, situation.knob, {situation.knob: value}, "values", f"{situation.knob} = {_text(value)}")
            for value in others
        ]


def choice_probabilities(rewards: Sequence[float]) -> list[float]:
    """p(c) proportional to exp(r_c), invariant to r + const and safe at |r| = 1e4.

    Source: Appendix F. Reference values: rewards .4247, .6124, .6117, .5123 give .2220, .2679, .2677, .2424.

    Raises:
        ValueError: no rewards, or one that is not finite.
    """
    if not rewards or not all(math.isfinite(reward) for reward in rewards):
        raise ValueError(f"choice probabilities need finite rewards, got {list(rewards)!r}")
    top = max(rewards)
    weights = [math.exp(reward - top) for reward in rewards]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def draw_better(rewards: Sequence[float], incumbent: int, rng: random.Random) -> int:
    """Draw an index with p(c) proportional to exp(r_c) among the candidates that beat the incumbent; the incumbent if none does.

    The paper draws from all candidates; a value whose local reward is no better than the incumbent's would only be sent to
    validation to be rejected, so it is left out of the draw.
    """
    better = [index for index, reward in enumerate(rewards) if index != incumbent and reward > rewards[incumbent]]
    if not better:
        return incumbent
    return rng.choices(better, weights=choice_probabilities([rewards[index] for index in better]))[0]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else canonical_json(value)
