"""Laws of both gates: what may and what may not change a verdict, and how often the default gate errs."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimas_core import acceptance
from optimas_core.acceptance import (
    Decision,
    Gate,
    PairedSequentialGate,
    ScorePair,
    StrictGate,
    TestedLevel,
    gate_for,
    next_level,
)
from optimas_core.errors import MetricError
from optimas_core.spec import PairedSequentialAcceptance, StrictAcceptance

GATES: list[Gate] = [StrictGate(), PairedSequentialGate()]
grid = st.integers(0, 8).map(lambda k: k / 8)
maybe = st.one_of(st.none(), grid, grid, grid, grid, grid, grid)
many_pairs = st.lists(st.tuples(maybe, maybe), min_size=20, max_size=80)


def judge(gate: Gate, pairs: Sequence[ScorePair], alpha: float = 0.05, seed: int = 7) -> Decision:
    return gate.decide(pairs, alpha=alpha, available=len(pairs), metric_range=(0.0, 1.0), seed=seed)


def edit(n: int, up: float, down: float, seed: int) -> list[ScorePair]:
    draws = np.random.default_rng(seed).random(n)
    return [(0.0, 1.0) if u < up else (1.0, 0.0) if u < up + down else (1.0, 1.0) for u in draws]


def test_the_public_surface() -> None:
    assert acceptance.__all__ == sorted(acceptance.__all__)
    assert all(hasattr(acceptance, name) for name in acceptance.__all__)


def test_gate_for_takes_every_setting() -> None:
    assert gate_for(StrictAcceptance(items=7)) == StrictGate(items=7)
    chosen = PairedSequentialAcceptance(items=100, first_look=10, max_missing=0.1, futility_gain=0.2)
    assert gate_for(chosen) == PairedSequentialGate(items=100, first_look=10, max_missing=0.1, futility_gain=0.2)


@pytest.mark.parametrize("gate", GATES)
@settings(max_examples=60, deadline=None)
@given(pairs=many_pairs, shuffle=st.integers(0, 99))
def test_arrival_order_is_irrelevant(gate: Gate, pairs: list[ScorePair], shuffle: int) -> None:
    arrived: dict[int, ScorePair] = {}
    for index in random.Random(shuffle).sample(range(len(pairs)), len(pairs)):
        arrived[index] = pairs[index]
    assert judge(gate, [arrived[i] for i in range(len(pairs))]) == judge(gate, pairs)


@pytest.mark.parametrize("gate", GATES)
@settings(max_examples=60, deadline=None)
@given(pairs=many_pairs)
def test_asking_step_by_step_gives_the_verdict_of_asking_once(gate: Gate, pairs: list[ScorePair]) -> None:
    n = len(pairs)
    wanted = gate.first_items(n)
    while True:
        decision = gate.decide(pairs[:wanted], alpha=0.05, available=n, metric_range=(0.0, 1.0), seed=7)
        if decision.kind != "continue":
            break
        assert wanted < decision.next_items <= n
        wanted = decision.next_items
    assert decision == judge(gate, pairs)


@pytest.mark.parametrize("gate", GATES)
@settings(max_examples=60, deadline=None)
@given(pairs=many_pairs)
def test_swapping_the_arms_never_accepts_both(gate: Gate, pairs: list[ScorePair]) -> None:
    kinds = [judge(gate, pairs, alpha=0.4).kind, judge(gate, [(b, a) for a, b in pairs], alpha=0.4).kind]
    assert kinds.count("accept") <= 1


@pytest.mark.parametrize("gate", GATES)
@settings(max_examples=60, deadline=None)
@given(pairs=many_pairs, constant=st.sampled_from([-2.0, 0.5, 4.0]))
def test_adding_a_constant_to_both_arms_changes_nothing(gate: Gate, pairs: list[ScorePair], constant: float) -> None:
    moved = [(None if a is None else a + constant, None if b is None else b + constant) for a, b in pairs]
    assert judge(gate, moved) == judge(gate, pairs)


@pytest.mark.parametrize("gate", GATES)
@settings(max_examples=60, deadline=None)
@given(pairs=many_pairs)
def test_the_known_half_of_a_missing_pair_never_counts(gate: Gate, pairs: list[ScorePair]) -> None:
    blanked = [(None, None) if a is None or b is None else (a, b) for a, b in pairs]
    assert judge(gate, blanked) == judge(gate, pairs)


@settings(max_examples=60, deadline=None)
@given(pairs=many_pairs, alpha=st.sampled_from([0.2, 0.05, 0.01]))
def test_an_acceptance_is_a_gain_with_a_p_value_within_its_level(pairs: list[ScorePair], alpha: float) -> None:
    decision = judge(PairedSequentialGate(), pairs, alpha=alpha)
    if decision.kind == "accept":
        assert decision.p_value is not None and decision.p_value <= alpha
        assert decision.difference is not None and decision.difference > 0
        assert decision.low is not None and decision.high is not None
        assert decision.low <= decision.difference <= decision.high
    assert decision.alpha_spent in (0.0, alpha)


@pytest.mark.parametrize("gate", GATES)
def test_failed_items_are_missing_and_never_minus_infinity_or_zero(gate: Gate) -> None:
    """Defect 4 of the reference: failed items left the mean of one arm, failed metrics scored -inf, a first failure 0."""
    # The challenger fails on two items that the incumbent solves. A one-sided mean of survivors would rise from .5 to .6,
    # a 0 or -inf would fall; the paired comparison sees no change on the items that both arms answered.
    both = [(1.0, 1.0)] * 8 + [(0.0, 0.0)] * 10
    decision = judge(gate, [*both, (1.0, None), (1.0, None)])
    assert (decision.n_pairs, decision.n_missing, decision.difference) == (18, 2, 0.0)
    assert decision.kind == "reject"
    for bad in (-math.inf, math.inf, math.nan):
        with pytest.raises(MetricError, match="missing"):
            judge(gate, [*both, (1.0, bad), (None, 1.0)])
        with pytest.raises(MetricError, match="missing"):
            judge(gate, [*both, (None, bad), (1.0, 1.0)])


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("arm", [0, 1])
def test_too_much_missing_is_indecisive(gate: Gate, arm: int) -> None:
    pairs: list[ScorePair] = [((None, 1.0) if arm == 0 else (0.0, None)) if i % 3 == 0 else (0.0, 1.0) for i in range(60)]
    decision = judge(gate, pairs)
    assert decision.kind == "indecisive"
    assert "missing" in decision.reason


def test_an_outage_before_the_first_look_costs_no_level_and_few_items() -> None:
    decision = judge(PairedSequentialGate(), [(0.5, None)] * 350)
    assert (decision.kind, decision.next_items, decision.alpha_spent) == ("indecisive", 32, 0.0)
    assert (decision.difference, decision.low, decision.p_value) == (None, None, None)


def test_a_futile_test_is_charged_in_full() -> None:
    """Crediting it would be unsound: only tests that were not stopped can be accepted."""
    decision = judge(PairedSequentialGate(), edit(350, 0.0, 0.3, seed=1))
    assert (decision.kind, decision.alpha_spent) == ("reject", 0.05)
    assert decision.next_items == 32


def test_identical_outputs_are_rejected_cheaply() -> None:
    decision = judge(PairedSequentialGate(), [(0.3, 0.3)] * 350)
    assert decision.kind == "reject"
    assert decision.next_items <= 60


def test_strict_accepts_any_higher_sum_and_keeps_the_incumbent_on_a_tie() -> None:
    assert judge(StrictGate(), [(0.5, 0.5)] * 19 + [(0.5, 0.51)]).kind == "accept"
    assert judge(StrictGate(), [(0.5, 0.5)] * 20).kind == "reject"


def test_no_more_items_than_available_are_ever_wanted() -> None:
    for available in (1, 3, 19, 20, 21, 60):
        for gate in GATES:
            pairs = [(0.0, 1.0)] * available
            assert gate.first_items(available) <= available
            assert judge(gate, pairs).kind in ("accept", "reject")


@pytest.mark.parametrize("alpha", [0.0, 1e-18])
def test_a_level_that_is_used_up_never_accepts(alpha: float) -> None:
    assert judge(PairedSequentialGate(), [(0.0, 1.0)] * 60, alpha=alpha).kind == "reject"


def test_whole_runs_of_null_edits_rarely_accept() -> None:
    gate, accepted, items, runs = PairedSequentialGate(flips=2000), 0, [], 300
    for run in range(runs):
        past: list[TestedLevel] = []
        for t in range(6):
            level = next_level(0.05, past, 6 - t)
            pairs = edit(350, 0.10, 0.10, seed=10 * run + t)
            decision = gate.decide(pairs, alpha=level, available=350, metric_range=(0.0, 1.0), seed=run)
            assert decision.verdict is not None
            past.append(TestedLevel(decision.verdict, decision.alpha_spent))
            items.append(decision.next_items)
        accepted += any(test.verdict == "accept" for test in past)
    assert accepted / runs <= 0.09  # 0.05 + 3.2 standard errors
    assert np.mean(items) <= 88  # about 80 in benchmarks/gate.py


def test_a_single_small_test_with_skewed_scores_keeps_its_level() -> None:
    """60 items of a token-F1-like metric with many ties, level .05: 800 null edits."""
    rng, gate, accepted = np.random.default_rng(4), PairedSequentialGate(flips=2000), 0
    for trial in range(800):
        arms = np.where(rng.random((2, 60)) < 0.4, rng.choice([0.4, 0.5, 0.67, 1.0], (2, 60)), 0.0)
        decision = judge(gate, [(float(a), float(b)) for a, b in arms.T], seed=trial)
        accepted += decision.kind == "accept"
    assert accepted / 800 <= 0.075  # 0.05 + 3.2 standard errors


def test_true_gains_are_found() -> None:
    gate = PairedSequentialGate()
    ten = [judge(gate, edit(350, 0.20, 0.10, seed), alpha=0.01).kind == "accept" for seed in range(200)]
    assert np.mean(ten) >= 0.70
    large = [judge(gate, edit(350, 0.25, 0.05, seed), alpha=0.01) for seed in range(100)]
    assert np.mean([d.kind == "accept" for d in large]) >= 0.95
    assert np.mean([d.next_items for d in large]) <= 160
