"""Selection policies and the plan of an iteration: pure functions of the state and the run's seed."""

import random
from collections import Counter

import numpy as np
import pytest

from optimas_core.controller import ByGain, RoundRobin, RunState, Uniform, draw_examples, selection_for
from optimas_core.spec import GainSelection, RoundRobinSelection, UniformSelection
from optimas_core.system import Example

NAMES = ["rewriter", "retriever", "answerer"]


def states(count: int) -> list[RunState]:
    return [RunState(iteration=number) for number in range(count)]


def test_uniform_is_uniform() -> None:
    counts = Counter(Uniform().choose(NAMES, state, 0) for state in states(3000))
    assert all(count == pytest.approx(1000, abs=100) for count in counts.values()) and len(counts) == 3


def test_uniform_differs_by_seed_and_iteration_only() -> None:
    one = [Uniform().choose(NAMES, state, 7) for state in states(40)]
    assert one == [Uniform().choose(NAMES, RunState(iteration=number, accepted=3, charged=0.1), 7) for number in range(40)]
    assert one != [Uniform().choose(NAMES, state, 8) for state in states(40)]


def test_round_robin_covers_all_each_turn() -> None:
    chosen = [RoundRobin().choose(NAMES, state, 5) for state in states(12)]
    assert all(set(chosen[start : start + 3]) == set(NAMES) for start in range(0, 12, 3))
    assert chosen[:3] == chosen[3:6]
    assert len({tuple(RoundRobin().choose(NAMES, state, seed) for state in states(3)) for seed in range(30)}) == 6


def test_gain_prefers_what_gained_and_starves_nobody() -> None:
    gains = {"rewriter": (0.0, 0.0), "retriever": (0.3,), "answerer": (0.1, 0.1)}
    counts = Counter(ByGain(0.3).choose(NAMES, RunState(iteration=number, gains=gains), 0) for number in range(4000))
    assert counts["rewriter"] / 4000 == pytest.approx(0.1, abs=0.02), "its share of the exploration"
    assert counts["retriever"] / 4000 == pytest.approx(0.1 + 0.7 * 0.75, abs=0.03)


def test_gain_tries_each_component_once_before_any_again() -> None:
    tried = {"retriever": (0.3,), "rewriter": (0.0,)}
    assert {ByGain(0.5).choose(NAMES, RunState(iteration=number, gains=tried), number) for number in range(200)} == {"answerer"}
    assert len({ByGain(0.0).choose(NAMES, RunState(), seed) for seed in range(50)}) == 3, "in random order"
    nothing = dict.fromkeys(NAMES, (0.0,))
    assert len({ByGain(0.0).choose(NAMES, RunState(iteration=number, gains=nothing), 0) for number in range(50)}) == 3, "no gain: uniform"


def test_settings_name_the_policy() -> None:
    assert isinstance(selection_for(UniformSelection()), Uniform)
    assert isinstance(selection_for(RoundRobinSelection()), RoundRobin)
    assert isinstance(selection_for(GainSelection(exploration=0.1)), ByGain)


def test_draws_have_no_repeats_and_differ_by_purpose_and_iteration() -> None:
    train = [Example(f"e{number}", {}) for number in range(40)]
    first = draw_examples(train, 20, "fresh", 0, 1)
    assert len(set(first)) == 20
    assert first == draw_examples(train[::-1], 20, "fresh", 0, 1), "the order of the file does not matter"
    assert len({first, draw_examples(train, 20, "fresh", 0, 2), draw_examples(train, 20, "search", 0, 1)}) == 3
    assert sorted(draw_examples(train, 100, "fresh", 0, 1)) == sorted(example.id for example in train)


def test_no_library_disturbs_the_plan() -> None:
    train = [Example(f"e{number}", {}) for number in range(40)]
    before = [(Uniform().choose(NAMES, state, 0), draw_examples(train, 5, "fresh", 0, state.iteration)) for state in states(20)]
    after = []
    for state in states(20):
        random.seed(42)
        np.random.seed(42)
        after.append((Uniform().choose(NAMES, state, 0), draw_examples(train, 5, "fresh", 0, state.iteration)))
        random.random()
    assert after == before
