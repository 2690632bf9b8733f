"""Text of a pair, and the split by example (reference defect 7)."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimas_core.canonical import canonical_json
from optimas_core.errors import DataError
from optimas_core.rewards import render, split_by_example


def test_fields_are_lines_in_the_order_of_their_names() -> None:
    x, y = render({"question": "who?", "context": ["one", "two"], "k": 5}, {"answer": "me", "sure": True, "note": None})
    assert x == "context:\n- one\n- two\nk: 5\nquestion: who?"
    assert y == "answer: me\nnote: \nsure: true"


def test_text_survives_canonical_json() -> None:
    context = {"b": "2", "a": ["x", {"z": 1, "y": 2.5}], "empty": []}
    assert render(json.loads(canonical_json(context)), {}) == render(context, {})


@given(st.sets(st.text(min_size=1, max_size=8), min_size=2, max_size=40), st.floats(0.01, 0.99), st.integers(0, 5))
def test_split_divides_examples_and_leaves_no_side_empty(names: set[str], share: float, seed: int) -> None:
    train, held_out = split_by_example([*names, *names], share, seed)
    assert train and held_out
    assert not train & held_out
    assert train | held_out == names


def test_an_example_keeps_its_side_when_others_arrive() -> None:
    first = [f"e{number}" for number in range(40)]
    train, held_out = split_by_example(first, 0.3, 7)
    later_train, later_held_out = split_by_example([*first, *(f"n{number}" for number in range(200))], 0.3, 7)
    assert train <= later_train
    assert held_out <= later_held_out
    assert 0.2 < len(later_held_out) / 240 < 0.4


def test_the_seed_changes_the_split() -> None:
    names = [f"e{number}" for number in range(40)]
    assert split_by_example(names, 0.3, 0) != split_by_example(names, 0.3, 1)


@pytest.mark.parametrize(("names", "share"), [(["a", "a"], 0.3), ([], 0.3), (["a", "b"], 0.0), (["a", "b"], 1.0)])
def test_impossible_splits_are_refused(names: list[str], share: float) -> None:
    with pytest.raises(DataError):
        split_by_example(names, share, 0)


def test_importing_the_package_and_its_pure_parts_does_not_import_torch() -> None:
    code = (
        "import sys, optimas_core.rewards as r; r.pairwise_accuracy, r.RewardPair, r.FitReport\n"
        "assert not {'torch', 'transformers', 'peft'} & set(sys.modules)\n"
        "try: r.nothing\nexcept AttributeError: pass\nelse: raise SystemExit(1)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_public_name_exists() -> None:
    import optimas_core.rewards as rewards

    assert rewards.__all__ == sorted(rewards.__all__)
    assert set(rewards.__all__) == set(rewards._HOME)
    for name in rewards.__all__:
        assert getattr(rewards, name) is not None
