"""Metrics: token F1 as SQuAD and HotpotQA compute it, exact match, the option a reply settles on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimas_core.metrics import choice_in, exact_match, normalized_tokens, token_f1


@pytest.mark.parametrize(
    ("predicted", "expected", "score"),
    [
        ("The Rhine.", "rhine", 1.0),
        ("the river Rhine", "Rhine", 2 / 3),
        ("Paris", "Rhine", 0.0),
        ("", "", 1.0),
        ("", "Rhine", 0.0),
        ("a a b", "a b b", 2 / 3),  # "a" is an article: [b] against [b, b]
        ("U.S.", "US", 1.0),
        ("1,250", "1250", 1.0),
        ("c c d", "c d d", 2 / 3),
    ],
)
def test_token_f1(predicted: str, expected: str, score: float) -> None:
    assert token_f1(predicted, expected) == pytest.approx(score)


@given(st.text(), st.text())
def test_token_f1_is_symmetric_bounded_and_one_for_equal_texts(left: str, right: str) -> None:
    assert token_f1(left, right) == token_f1(right, left)
    assert 0.0 <= token_f1(left, right) <= 1.0
    assert token_f1(left, left) == 1.0
    assert exact_match(left, right) <= token_f1(left, right)


def test_normalizing() -> None:
    assert normalized_tokens("The  Quick, brown-fox's an 'end'") == ["quick", "brownfoxs", "end"]


@pytest.mark.parametrize(
    ("reply", "options", "choice"),
    [
        ("The diagnosis is supported. Answer: yes", ("yes", "no", "maybe"), "yes"),
        ("diagnosis", ("yes", "no"), None),
        ("a volcano", ("yes", "no"), None),
        ("Not yes but NO.", ("yes", "no"), "no"),
        ("It is very good", ("very", "very good"), "very good"),
        ("", ("yes",), None),
        ("C++", ("C", "C++"), "C++"),
    ],
)
def test_the_option_a_reply_settles_on(reply: str, options: tuple[str, ...], choice: str | None) -> None:
    assert choice_in(reply, options) == choice
