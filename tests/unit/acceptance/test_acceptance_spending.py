"""How alpha is shared over iterations and looks."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimas_core.acceptance import TestedLevel, charged_level, next_level
from optimas_core.acceptance._spending import look_schedule, spent_by


def test_equal_shares_when_every_iteration_tests_and_rejects() -> None:
    past: list[TestedLevel] = []
    for t in range(6):
        level = next_level(0.05, past, 6 - t)
        assert level == pytest.approx(0.05 / 6)
        past.append(TestedLevel("reject", level))
    assert charged_level(past) == pytest.approx(0.05)


def test_an_iteration_that_does_not_test_leaves_its_share_to_later_ones() -> None:
    assert next_level(0.05, [], 4) == pytest.approx(0.05 / 4)  # two of six iterations kept the incumbent


def test_an_acceptance_gives_its_level_back_and_a_rejection_does_not() -> None:
    assert next_level(0.06, [TestedLevel("accept", 0.01)], 5) == pytest.approx(0.012)
    assert next_level(0.06, [TestedLevel("reject", 0.01)], 5) == pytest.approx(0.010)
    assert next_level(0.06, [TestedLevel("indecisive", 0.01)], 5) == pytest.approx(0.010)


@given(st.lists(st.sampled_from(["accept", "reject", "indecisive", "no test"]), min_size=1, max_size=40))
def test_levels_charged_before_any_false_accept_never_exceed_alpha(outcomes: list[str]) -> None:
    past: list[TestedLevel] = []
    for t, outcome in enumerate(outcomes):
        level = next_level(0.05, past, len(outcomes) - t)
        # Were this the first false accept, all it put at risk is what was charged before and its own level.
        assert charged_level(past) + level <= 0.05 + 1e-12
        if outcome != "no test":
            past.append(TestedLevel(outcome, level))  # type: ignore[arg-type]


def test_levels_refuse_nonsense() -> None:
    with pytest.raises(ValueError, match="iterations_left"):
        next_level(0.05, [], 0)
    with pytest.raises(ValueError, match="alpha"):
        next_level(1.5, [], 3)


@given(st.integers(4, 50), st.integers(1, 2000))
def test_looks_grow_and_end_with_all_items(first_look: int, items: int) -> None:
    looks = look_schedule(first_look, items)
    assert looks[-1] == items
    assert looks[0] == min(first_look, items)
    assert all(a < b for a, b in itertools.pairwise(looks))


def test_the_spending_function_ends_at_alpha() -> None:
    fractions = sorted(random.Random(0).random() for _ in range(20))
    spent = [spent_by(0.05, f) for f in fractions]
    assert spent == sorted(spent)
    assert spent_by(0.05, 1.0) == 0.05
