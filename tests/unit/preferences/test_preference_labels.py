"""Labels are a pure function of recorded scores: no order counts, ties and noise give no pair, missing is no score."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimas_core.preferences import ScoredCandidate, label_pairs, standard_error, undecided


def candidate(name: str, *rewards: float) -> ScoredCandidate:
    return ScoredCandidate((name,), {"out": name}, rewards)


def named(pairs: list[Any]) -> set[tuple[str, str]]:
    return {(pair.chosen.labels[0], pair.rejected.labels[0]) for pair in pairs}


scores = st.lists(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), max_size=4), min_size=2, max_size=6)


@given(scores, st.randoms(use_true_random=False), st.booleans(), st.floats(0, 3))
def test_neither_the_order_of_candidates_nor_of_rollouts_counts(
    rewards: list[list[float]], random: Any, deterministic: bool, gap: float
) -> None:
    ordered = [candidate(f"c{index}", *item) for index, item in enumerate(rewards)]
    shuffled = [candidate(item.labels[0], *random.sample(item.rewards, len(item.rewards))) for item in ordered]
    random.shuffle(shuffled)
    pairs = label_pairs(ordered, min_gap_se=gap, deterministic=deterministic)
    again = label_pairs(shuffled, min_gap_se=gap, deterministic=deterministic)
    assert [named([pair]) for pair in pairs] == [named([pair]) for pair in again]
    assert [(pair.se_chosen, pair.se_rejected) for pair in pairs] == [(pair.se_chosen, pair.se_rejected) for pair in again]
    for pair in pairs:
        assert pair.chosen.mean is not None and pair.rejected.mean is not None and pair.chosen.mean > pair.rejected.mean


@given(scores)
def test_without_noise_every_pair_of_different_means_is_kept(rewards: list[list[float]]) -> None:
    candidates = [candidate(f"c{index}", *item) for index, item in enumerate(rewards)]
    expected = {
        (left.labels[0], right.labels[0])
        for left in candidates
        for right in candidates
        if left.mean is not None and right.mean is not None and left.mean > right.mean
    }
    assert named(label_pairs(candidates, min_gap_se=1.0, deterministic=True)) == expected


def test_the_better_one_is_chosen_whichever_comes_first() -> None:
    low, high = candidate("low", 0.0), candidate("high", 1.0)
    for order in ([low, high], [high, low]):
        assert named(label_pairs(order, min_gap_se=0, deterministic=True)) == {("high", "low")}


def test_ties_and_gaps_inside_the_noise_give_no_pair() -> None:
    noisy, other = candidate("a", 0.0, 1.0, 0.0, 1.0), candidate("b", 0.0, 1.0, 1.0, 1.0)
    assert label_pairs([candidate("a", 0.5), candidate("b", 0.5)], min_gap_se=0, deterministic=True) == []
    assert label_pairs([noisy, other], min_gap_se=1.0, deterministic=False) == []
    assert named(label_pairs([noisy, other], min_gap_se=0.1, deterministic=False)) == {("b", "a")}


def test_a_missing_rollout_is_no_zero() -> None:
    failed, half, full = candidate("failed"), candidate("half", 0.5), candidate("full", 1.0)
    assert failed.mean is None
    assert named(label_pairs([failed, half, full], min_gap_se=0, deterministic=True)) == {("full", "half")}
    assert half.mean == ScoredCandidate(("x",), {}, (0.5, 0.5)).mean == 0.5


def test_one_rollout_of_a_stochastic_system_decides_nothing() -> None:
    pair = [candidate("a", 0.0), candidate("b", 1.0)]
    assert label_pairs(pair, min_gap_se=0, deterministic=False) == []
    assert len(label_pairs(pair, min_gap_se=5, deterministic=True)) == 1


def test_standard_errors() -> None:
    assert standard_error([0.0, 1.0], False) == pytest.approx(0.5)
    assert standard_error([0.0, 1.0, 0.0, 1.0], False) == pytest.approx(math.sqrt(1 / 3 / 4))
    assert standard_error([1.0], False) == math.inf and standard_error([], True) == 0.0


# Racing


def test_candidates_clearly_apart_are_decided_and_overlapping_ones_are_not() -> None:
    assert undecided([[1.0, 1.0], [0.0, 0.0]], reward_range=1.0) == []
    assert undecided([[1.0, 1.0], [0.9, 1.0], [0.0, 0.0]], reward_range=1.0) == [0, 1]
    assert undecided([[1.0], [0.0]], reward_range=1.0) == [0, 1], "one rollout decides nothing"
    assert undecided([[0.5, 0.5]], reward_range=1.0) == [], "nothing to decide between"
    assert undecided([], reward_range=1.0) == []


@given(st.lists(st.lists(st.floats(0, 1), max_size=5), max_size=5), st.integers(-4, 4))
def test_racing_does_not_depend_on_the_unit_of_the_metric(rewards: list[list[float]], power: int) -> None:
    scale = 2.0**power  # a power of two: no rounding
    scaled = [[item * scale for item in one] for one in rewards]
    assert undecided(scaled, reward_range=scale) == undecided(rewards, reward_range=1.0)


@given(st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=5), min_size=2, max_size=5))
def test_an_undecided_candidate_overlaps_another_undecided_one(rewards: list[list[float]]) -> None:
    assert len(undecided(rewards, reward_range=1.0)) != 1
