"""Values of discrete knobs: who is proposed, p(c) proportional to exp(r_c), and the draw."""

import asyncio
import math
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimas_core.optimizers import OtherValues, Situation, choice_probabilities, draw_better, without_repeats
from optimas_core.optimizers._proposal import Proposal
from optimas_core.system import Choice, NumberGrid, PromptSpace, Space, component

REWARDS = st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=8)


def others(space: Space, now: Any) -> list[Any]:
    def tool(question: str, knob: Any = now) -> str:
        return question

    item = component(tool, outputs="answer", space={"knob": space})
    found = asyncio.run(OtherValues().propose(Situation(item, "knob", {"knob": now})))
    return [proposal.values["knob"] for proposal in found]


def test_every_other_value_is_proposed_the_nearest_number_first() -> None:
    assert others(NumberGrid(1, 5, 10, 25), 10) == [5, 1, 25]
    assert others(NumberGrid(1, 2, 3), 2) == [1, 3]
    assert others(Choice("b", "a", "c"), "a") == ["b", "c"]
    assert others(Choice(True, 1, "1"), 1) == [True, "1"]


def test_a_value_chosen_per_input_has_all_values_as_others() -> None:
    """After an accepted per-input choice the knob holds a policy, no number."""

    def tool(question: str, k: int = 1) -> str:
        return question

    item = component(tool, outputs="answer", space={"k": NumberGrid(1, 5)})
    policy = {"k": {"per_input": [1, 5], "lrf": "0" * 64}}
    assert [p.values["k"] for p in asyncio.run(OtherValues().propose(Situation(item, "k", policy)))] == [1, 5]


def test_prompts_are_not_listed() -> None:
    def tool(question: str, knob: str = "x") -> str:
        return question

    item = component(tool, outputs="answer", space={"knob": Choice("x", "y")})
    object.__setattr__(item, "space", {"knob": PromptSpace()})
    assert asyncio.run(OtherValues().propose(Situation(item, "knob", {"knob": "x"}))) == []


def test_reference_values() -> None:
    """Table 8's k = 1, 5, 10, 25."""
    found = choice_probabilities([0.4247, 0.6124, 0.6117, 0.5123])
    assert [round(value, 4) for value in found] == [0.2220, 0.2679, 0.2677, 0.2424]


@given(REWARDS, st.floats(-1e4, 1e4), st.randoms(use_true_random=False))
def test_probabilities_are_a_law_of_differences(rewards: list[float], shift: float, rng: random.Random) -> None:
    found = choice_probabilities(rewards)
    assert math.isclose(math.fsum(found), 1.0, abs_tol=1e-9) and all(value >= 0 for value in found)
    moved = choice_probabilities([reward + shift for reward in rewards])
    assert moved == pytest.approx(found, abs=1e-6)
    order = rng.sample(range(len(rewards)), len(rewards))
    assert choice_probabilities([rewards[index] for index in order]) == pytest.approx([found[index] for index in order], abs=1e-12)
    for left, right in zip(range(len(rewards)), order, strict=True):
        assert rewards[left] >= rewards[right] or found[left] <= found[right]


@pytest.mark.parametrize("rewards", [[], [math.nan], [1.0, math.inf], [-math.inf, 0.0]])
def test_rewards_that_are_no_numbers_are_refused(rewards: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        choice_probabilities(rewards)


@given(REWARDS, st.integers(0, 7), st.integers(0, 100))
def test_the_draw_is_better_than_the_incumbent_or_the_incumbent(rewards: list[float], incumbent: int, seed: int) -> None:
    incumbent %= len(rewards)
    chosen = draw_better(rewards, incumbent, random.Random(seed))
    if max(rewards) > rewards[incumbent]:
        assert rewards[chosen] > rewards[incumbent]
    else:
        assert chosen == incumbent


def test_the_draw_follows_the_probabilities_of_the_better_ones() -> None:
    rng = random.Random(0)
    counts = Counter(draw_better([0.0, 1.0, 2.0, -5.0], 0, rng) for _ in range(4000))
    assert set(counts) == {1, 2}
    assert counts[2] / 4000 == pytest.approx(1 / (1 + math.exp(-1)), abs=0.03)


def test_repeats_and_the_incumbent_are_dropped_in_order() -> None:
    made = [Proposal("c", "k", {"k": value}, "values", "") for value in (1, 2, 3, 2, 1)]
    assert [item.values["k"] for item in without_repeats(made, {"k": 1, "other": 0})] == [2, 3]
    assert len({item.label for item in made}) == 3
