"""Canonical JSON and digests: equal values have one text, and nothing else has it."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimas_core.canonical import canonical_json, derive_seed, digest

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(plain)
def test_it_is_json_and_reads_back_to_the_same_text(value: Any) -> None:
    assert canonical_json(json.loads(canonical_json(value))) == canonical_json(value)


@given(st.dictionaries(st.text(), plain, max_size=6), st.integers())
def test_the_order_of_keys_does_not_count(value: dict[str, Any], seed: int) -> None:
    names = list(value)
    random.Random(seed).shuffle(names)
    assert digest({name: value[name] for name in names}) == digest(value)


def test_kinds_are_told_apart_and_sequences_are_lists() -> None:
    assert len({digest(value) for value in (1, True, "1", 1.0, None, [], {}, "")}) == 8
    assert canonical_json((1, 2)) == canonical_json([1, 2]) == "[1,2]"
    assert canonical_json({1: "a"}) == '{"1":"a"}'


@pytest.mark.parametrize("value", [math.nan, math.inf, [1, -math.inf], {"a": {"b": math.nan}}, numpy.float32("nan")])
def test_numbers_that_are_not_finite_have_no_text(value: Any) -> None:
    with pytest.raises(ValueError):
        canonical_json(value)


def test_what_json_cannot_hold_is_a_type_error() -> None:
    for value in (object(), {1, 2}, b"a", {1: "a", "1": "b"}):
        with pytest.raises(TypeError):
            canonical_json(value)


def test_numbers_and_arrays_of_numpy_are_plain() -> None:
    value = {"a": numpy.float32(0.5), "b": numpy.int64(3), "c": numpy.arange(3)}
    assert canonical_json(value) == '{"a":0.5,"b":3,"c":[0,1,2]}'


def test_digests_are_what_they_were() -> None:
    assert digest({"b": [1, 2.5], "a": "ü"}) == digest({"a": "ü", "b": (1, 2.5)})
    assert digest("") == "12ae32cb1ec02d01eda3581b127c1fee"  # sha256 of two quotation marks
    assert len(digest(1)) == 32


@given(plain, plain)
def test_seeds_have_63_bits_and_depend_on_every_part(left: Any, right: Any) -> None:
    seed = derive_seed(left, right)
    assert 0 <= seed < 2**63
    assert seed == derive_seed(left, right)
    if canonical_json(left) != canonical_json(right):
        assert seed != derive_seed(right, left)


def test_a_lone_surrogate_from_a_model_breaks_nothing() -> None:
    assert digest("\ud800") != digest("\ud801")
    assert derive_seed("\ud800") != derive_seed("\ud801")
