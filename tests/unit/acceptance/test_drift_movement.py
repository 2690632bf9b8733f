"""The gate's test asked whether something moved: how often it cries without reason, and what it sees."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from optimas_core.acceptance import Movement, PairedSequentialGate, movement, partners

ALPHA = 0.2
Draw = Callable[[random.Random], float]


def test_partners_are_drawn_once_each_and_the_order_of_the_items_is_kept() -> None:
    pairing = partners({"x", "y"}, ["n1", "n2", "n3"], seed=7)
    assert [item for item, _ in pairing] == ["n1", "n2"], "for the third nothing is left"
    assert sorted(other for _, other in pairing) == ["x", "y"]
    assert pairing == partners(["y", "x"], ["n1", "n2", "n3"], seed=7), "the order of the records is not that of the draw"
    assert {tuple(other for _, other in partners(["x", "y"], ["n1", "n2"], seed)) for seed in range(20)} == {("x", "y"), ("y", "x")}


def judged(then: Sequence[float], now: Sequence[float | None], *, both: bool = True) -> Movement:
    gate, pairs = PairedSequentialGate(first_look=16), list(zip(then, now, strict=True))
    wanted = gate.first_items(len(pairs))
    while True:
        found = movement(gate, pairs[:wanted], alpha=ALPHA, available=len(pairs), metric_range=(0.0, 1.0), seed=3, both=both)
        if found.kind != "continue":
            return found
        wanted = found.next_items


@pytest.mark.parametrize("draw", [lambda dice: float(dice.random() < 0.3), lambda dice: dice.random() ** 3], ids=["binary", "skewed"])
def test_two_samples_of_one_distribution_paired_at_random_move_no_more_often_than_alpha(draw: Draw) -> None:
    runs, alarms = 300, 0
    for number in range(runs):
        dice = random.Random(number)
        found = judged([draw(dice) for _ in range(48)], [draw(dice) for _ in range(48)])
        alarms += found.kind in ("fell", "rose")
    # Three standard errors of a rate of ALPHA over 300 runs; a level that was not halved would give about twice ALPHA.
    assert alarms / runs <= ALPHA + 3 * (ALPHA * (1 - ALPHA) / runs) ** 0.5


def test_a_fall_and_a_rise_are_told_apart() -> None:
    dice = random.Random(1)
    high, low = [float(dice.random() < 0.9) for _ in range(40)], [float(dice.random() < 0.2) for _ in range(40)]
    fell, rose = judged(high, low), judged(low, high)
    assert (fell.kind, rose.kind) == ("fell", "rose")
    assert fell.difference is not None and fell.then is not None and fell.now is not None
    assert fell.difference == pytest.approx(fell.now - fell.then) and fell.difference < -0.4
    assert judged(low, high, both=False).kind == "same", "a rise is no matter where only a fall is asked for"


def test_equal_scores_end_long_before_all_items_are_measured() -> None:
    found = judged([0.5] * 40, [0.5] * 40)
    assert found.kind == "same" and found.n_pairs <= 24


def test_what_could_not_be_measured_is_no_movement() -> None:
    found = judged([1.0] * 40, [None] * 40)
    assert found.kind == "indecisive" and found.now is None and found.n_missing == 16
