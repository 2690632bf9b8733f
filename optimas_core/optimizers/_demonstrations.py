"""Demonstrations from the component's own well-rewarded trajectories on the training split: several subsets, in several orders."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from optimas_core.canonical import canonical_json, derive_seed
from optimas_core.optimizers._proposal import Observation, Proposal, Situation, without_repeats
from optimas_core.system import Demonstration, Prompt, PromptSpace

# Demonstrations are drawn from observations whose reward is within this share of the observed range below the best …
_WITHIN = 0.25
# … and from so many of them at most.
_POOL = 12


class Demonstrations:
    """Draws subsets of well-rewarded observations as worked examples, in both formats the space allows.

    An observation qualifies if its reward lies above the mean and within a quarter of the best; of those the shortest contexts are
    kept, since every demonstration is paid for with each later call. Expected answers are never used: what is shown is what the component
    itself wrote and the whole system was rewarded for.
    """

    async def propose(self, situation: Situation) -> list[Proposal]:
        space = situation.component.space[situation.knob]
        if not isinstance(space, PromptSpace) or space.demonstrations < 1:
            return []
        pool = _well_rewarded(situation.observations)
        if not pool:
            return []
        prompt = Prompt.from_json(situation.knobs[situation.knob])
        rng = random.Random(derive_seed("demonstrations", situation.seed))
        # A raw completion imitates worked examples most directly, so two draws of three are one where the space allows it.
        formats = ["completion", "completion", "chat"] if len(space.formats) > 1 else [*space.formats]
        sizes = [size for size in dict.fromkeys((min(2, space.demonstrations), space.demonstrations)) if size <= len(pool)] or [1]
        proposals = []
        for draw in range(3 * situation.count):
            size, name = sizes[draw % len(sizes)], formats[draw % len(formats)]
            chosen = rng.sample(pool, size)  # a subset in an order of its own
            changed = Prompt(
                prompt.instruction,
                "completion" if name == "completion" else "chat",
                tuple(_demonstration(item, situation) for item in chosen),
            )
            summary = f"{size} of its own trajectories as demonstrations, {name} format"
            values = {situation.knob: changed.to_json()}
            sources = tuple(item.example_id for item in chosen)
            proposals.append(Proposal(situation.component.name, situation.knob, values, "demonstrations", summary, sources))
        return without_repeats(proposals, situation.knobs)[: situation.count]


def _well_rewarded(observations: Sequence[Observation]) -> list[Observation]:
    """At most `_POOL` observations, one for each example: above the mean, within a quarter of the best, shortest inputs first."""
    if not observations:
        return []
    rewards = [item.reward for item in observations]
    bound = max(rewards) - _WITHIN * (max(rewards) - min(rewards))
    mean = math.fsum(rewards) / len(rewards)
    best: dict[str, Observation] = {}
    for item in sorted(observations, key=lambda item: (-item.reward, item.example_id, canonical_json(item.output))):
        if item.reward > mean and item.reward >= bound:
            best.setdefault(item.example_id, item)
    return sorted(best.values(), key=lambda item: (len(canonical_json(item.inputs)), item.example_id))[:_POOL]


def _demonstration(item: Observation, situation: Situation) -> Demonstration:
    component = situation.component
    output = canonical_json(item.output) if len(component.outputs) > 1 else str(item.output[component.outputs[0]])
    return Demonstration({name: item.inputs[name] for name in component.inputs}, output)
