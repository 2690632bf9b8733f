"""Pairwise accuracy with an honest interval, and decision alignment."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimas_core.errors import DataError, MetricError, TrainingDiverged
from optimas_core.rewards import better_than_chance, decision_alignment, pairwise_accuracy
from optimas_core.rewards._intervals import beta_quantile, clopper_pearson, incomplete_beta, student_quantile


def test_reference_value_with_a_tie() -> None:
    result = pairwise_accuracy([(2, 1), (1, 1), (0, 3), (5, -1)])
    assert result.accuracy == 0.625
    assert (result.n_pairs, result.n_examples) == (4, 4)
    assert 0.0 < result.low < 0.625 < result.high < 1.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_rewards_that_are_not_finite_are_an_error(bad: float) -> None:
    with pytest.raises(TrainingDiverged):
        pairwise_accuracy([(1.0, 0.0), (bad, 0.0)])


@given(
    st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50), st.integers(0, 6)), min_size=1, max_size=30),
    st.integers(1, 64),
    st.integers(-1000, 1000),
)
def test_increasing_affine_maps_change_nothing(rows: list[tuple[int, int, int]], scale: int, shift: int) -> None:
    names = [str(name) for _, _, name in rows]
    plain = pairwise_accuracy([(a, b) for a, b, _ in rows], names)
    mapped = pairwise_accuracy([(scale * a + shift, scale * b + shift) for a, b, _ in rows], names)
    assert mapped == plain


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 6)), min_size=1, max_size=30), st.randoms())
def test_order_does_not_matter(rows: list[tuple[int, int, int]], random: object) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = (pairwise_accuracy([r[:2] for r in each], [str(r[2]) for r in each]) for each in (rows, shuffled))
    assert (one.accuracy, one.low, one.high) == pytest.approx((other.accuracy, other.low, other.high))


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 9)), min_size=1, max_size=60))
def test_the_interval_holds_the_accuracy_and_has_width(rows: list[tuple[int, int]]) -> None:
    result = pairwise_accuracy([(won, 0.5) for won, _ in rows], [str(name) for _, name in rows])
    assert 0.0 <= result.low <= result.accuracy <= result.high <= 1.0
    assert result.high - result.low > 0.01


def test_pairs_of_one_example_count_less_than_pairs_of_many() -> None:
    """24 right of 30: as 30 examples, and as 5 examples of six pairs whose errors come together."""
    rewards = [(1.0, 0.0)] * 24 + [(0.0, 1.0)] * 6
    apart = pairwise_accuracy(rewards)
    together = pairwise_accuracy(rewards, [str(index // 6) for index in range(30)])
    assert apart.accuracy == together.accuracy == 0.8
    assert better_than_chance(apart)
    assert not better_than_chance(together)


def test_few_examples_all_right_are_no_proof() -> None:
    """Five coins all heads have probability 1/16 two-sided; six have 1/32. Many pairs of few examples change nothing."""
    assert not better_than_chance(pairwise_accuracy([(1, 0)] * 5))
    assert better_than_chance(pairwise_accuracy([(1, 0)] * 6))
    assert not better_than_chance(pairwise_accuracy([(1, 0)] * 60, [str(index % 5) for index in range(60)]))
    assert not better_than_chance(pairwise_accuracy([(1, 0)] * 60, ["only"] * 60))


def test_no_pairs_mean_nothing_is_known() -> None:
    result = pairwise_accuracy([], [])
    assert (result.accuracy, result.low, result.high, result.n_pairs) == (0.5, 0.0, 1.0, 0)
    assert not better_than_chance(result)


def test_ids_and_rewards_must_match() -> None:
    with pytest.raises(DataError):
        pairwise_accuracy([(1, 0)], ["a", "b"])


def test_chance_passes_the_gate_rarely_though_pairs_of_an_example_agree() -> None:
    """At 95 % the gate may open wrongly in 2.5 % of cases; 200 trials of 12 examples with dependent pairs."""
    rng = np.random.default_rng(0)
    opened = covered = 0
    for _ in range(200):
        sizes = rng.integers(1, 7, 12)
        share = np.repeat(rng.beta(1.0, 1.0, 12), sizes)
        won = rng.random(len(share)) < share
        names = [str(name) for name in np.repeat(np.arange(12), sizes)]
        result = pairwise_accuracy([(1, 0) if each else (0, 1) for each in won], names)
        opened += better_than_chance(result)
        covered += result.low <= 0.5 <= result.high
    assert opened <= 12
    assert covered >= 184


def test_quantiles_at_published_values() -> None:
    assert student_quantile(0.975, 4) == pytest.approx(2.776445, abs=1e-6)
    assert student_quantile(0.975, 1) == pytest.approx(12.706205, abs=1e-5)
    assert clopper_pearson(8, 10, 0.95) == pytest.approx((0.443905, 0.974789), abs=1e-6)
    assert clopper_pearson(0, 10, 0.95) == pytest.approx((0.0, 0.308497), abs=1e-6)
    assert incomplete_beta(0.3, 2, 3) == pytest.approx(0.3483)
    assert beta_quantile(0.5, 700, 77.7) == pytest.approx(0.900433, abs=1e-5)


GLOBAL = {"a": {"1": 0.2, "2": 0.2}, "b": {"1": 0.0, "2": 1.0}, "c": {"1": 0.1, "2": 0.0}}


def test_decision_alignment_of_a_perfect_and_of_a_misled_reward() -> None:
    perfect = decision_alignment({n: {k: 3 * v - 7 for k, v in r.items()} for n, r in GLOBAL.items()}, GLOBAL)
    assert perfect.spearman == pytest.approx(1.0)
    assert perfect.regret == 0.0
    assert (perfect.best_local, perfect.best_global, perfect.candidates, perfect.examples) == ("b", "b", 3, 2)
    misled = decision_alignment({"a": {"1": 1, "2": 1}, "b": {"1": 0, "2": 1}, "c": {"1": 0, "2": 0}}, GLOBAL)
    assert misled.regret == pytest.approx((0.5 - 0.2) / (0.5 - 0.05))
    assert misled.spearman == pytest.approx(0.5)
    worst = decision_alignment({n: {k: -v for k, v in r.items()} for n, r in GLOBAL.items()}, GLOBAL)
    assert (worst.spearman, worst.regret) == (pytest.approx(-1.0), pytest.approx(1.0))


def test_only_common_examples_count() -> None:
    local = {"a": {"1": 1.0, "9": -99.0}, "b": {"1": 0.0, "9": 99.0}}
    result = decision_alignment(local, {"a": {"1": 1.0}, "b": {"1": 0.0, "7": 5.0}, "not scored": {"1": 9.0}})
    assert (result.examples, result.candidates, result.regret) == (1, 2, 0.0)


def test_equal_candidates_have_no_regret_and_ties_share_the_choice() -> None:
    same = {"a": {"1": 0.5}, "b": {"1": 0.5}}
    result = decision_alignment({"a": {"1": 1.0}, "b": {"1": 0.0}}, same)
    assert (result.regret, result.spearman) == (None, None)
    tied = decision_alignment(same, {"a": {"1": 0.0}, "b": {"1": 1.0}})
    assert (tied.regret, tied.spearman) == (0.5, None)


def test_decision_alignment_refuses_bad_input() -> None:
    with pytest.raises(DataError):
        decision_alignment({"a": {"1": 1.0}}, {"b": {"1": 1.0}})
    with pytest.raises(DataError):
        decision_alignment({"a": {"1": 1.0}}, {"a": {"2": 1.0}})
    with pytest.raises(TrainingDiverged):
        decision_alignment({"a": {"1": math.nan}}, {"a": {"1": 1.0}})
    with pytest.raises(MetricError):
        decision_alignment({"a": {"1": 1.0}}, {"a": {"1": math.inf}})


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=2, max_size=8), st.integers(1, 9), st.integers(-50, 50))
def test_decision_alignment_is_invariant_under_increasing_affine_maps(rows: list[tuple[int, int]], scale: int, shift: int) -> None:
    local = {str(index): {"x": float(a)} for index, (a, _) in enumerate(rows)}
    measured = {str(index): {"x": float(b)} for index, (_, b) in enumerate(rows)}
    mapped = {name: {"x": scale * row["x"] + shift} for name, row in local.items()}
    assert decision_alignment(mapped, measured) == decision_alignment(local, measured)
