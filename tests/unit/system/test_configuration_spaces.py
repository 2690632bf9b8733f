"""Spaces accept what is inside them, also after a way through JSON, and say what is not; configurations and their digests."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimas_core.canonical import canonical_json
from optimas_core.errors import ConfigurationError, SystemDefinitionError
from optimas_core.system import (
    AdapterSpace,
    Choice,
    Configuration,
    Demonstration,
    ModelChoice,
    NumberGrid,
    Prompt,
    PromptSpace,
)

PROMPT = Prompt("Answer.", "chat", (Demonstration({"question": "1+1"}, "2"),))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2).map(tuple),
    max_leaves=4,
)


@given(st.lists(values, min_size=1, max_size=5, unique_by=canonical_json), st.data())
def test_a_choice_accepts_its_values_before_and_after_json(options: list[Any], data: st.DataObject) -> None:
    space = Choice(*options)
    value = data.draw(st.sampled_from(options))
    space.check(value, "c.knob")
    space.check(json.loads(canonical_json(value)), "c.knob")


def test_weights_as_tuples_survive_a_file() -> None:
    space = Choice((0.1, 1.0), (1.0, 0.1))
    space.check([0.1, 1.0], "aggregator.weights")
    with pytest.raises(ConfigurationError, match=r"aggregator\.weights"):
        space.check([0.1, 0.1], "aggregator.weights")


@pytest.mark.parametrize(("space", "value"), [(Choice(1, 0), True), (NumberGrid(1, 5), 2), (Choice("a"), None), (ModelChoice("m"), "n")])
def test_a_value_outside_is_named(space: Any, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"c\.knob = "):
        space.check(value, "c.knob")


def test_a_number_grid_is_sorted_distinct_and_finite() -> None:
    assert NumberGrid(5, 1, 3).values == (1, 3, 5)
    NumberGrid(1, 5).check(5.0, "c.k")
    for bad in ((), (1, 1), (1, 1.0), (1, math.nan), (1, math.inf), (1, "2"), (True, 2)):
        with pytest.raises(SystemDefinitionError):
            NumberGrid(*bad)


def test_impossible_choices_are_refused() -> None:
    for bad in ((), ("a", "a"), ({1, 2},), (object(),)):
        with pytest.raises(SystemDefinitionError):
            Choice(*bad)
    with pytest.raises(SystemDefinitionError):
        ModelChoice(object())  # type: ignore[arg-type]


def test_per_input_policies_are_checked_value_by_value() -> None:
    NumberGrid(1, 5).check({"per_input": [1, 5], "lrf": "x"}, "c.k")
    with pytest.raises(ConfigurationError):
        NumberGrid(1, 5).check({"per_input": [1, 7], "lrf": "x"}, "c.k")


def test_a_prompt_space_checks_every_part() -> None:
    PromptSpace().check(PROMPT.to_json(), "c.prompt")
    good = PROMPT.to_json()
    bad: list[tuple[PromptSpace, Any]] = [
        (PromptSpace(), "text"),
        (PromptSpace(), {"instruction": "a"}),
        (PromptSpace(), {**good, "extra": 1}),
        (PromptSpace(), {**good, "instruction": 5}),
        (PromptSpace(max_instruction_chars=3), good),
        (PromptSpace(formats=("completion",)), good),
        (PromptSpace(), {**good, "format": "poem"}),
        (PromptSpace(demonstrations=0), good),
        (PromptSpace(), {**good, "demonstrations": "none"}),
        (PromptSpace(), {**good, "demonstrations": [{"inputs": {}, "output": 1}]}),
    ]
    for space, value in bad:
        with pytest.raises(ConfigurationError, match=r"c\.prompt"):
            space.check(value, "c.prompt")


def test_an_adapter_is_a_name_or_none() -> None:
    AdapterSpace("base").check(None, "c.adapter")
    AdapterSpace("base").check("v1", "c.adapter")
    with pytest.raises(ConfigurationError):
        AdapterSpace("base").check(1, "c.adapter")


knobs = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=3), max_size=4)


@given(st.dictionaries(st.text(max_size=5), knobs, max_size=4), st.randoms(use_true_random=False))
def test_the_digest_of_a_configuration_does_not_depend_on_the_order_of_keys(data: dict[str, Any], random: Any) -> None:
    names = list(data)
    random.shuffle(names)
    shuffled = {name: dict(reversed(list(data[name].items()))) for name in names}
    assert Configuration(data).digest == Configuration(shuffled).digest
    loaded = Configuration.from_json(json.loads(json.dumps(Configuration(data).to_json())))
    assert loaded.digest == Configuration(data).digest
    assert loaded.differs_in(Configuration(data)) == []


def test_replacing_makes_a_new_value_that_differs_in_one_component() -> None:
    before = Configuration({"a": {"k": 1, "t": 0.0}, "b": {"k": 1}})
    after = before.replace("a", {"k": 2})
    assert before.of("a") == {"k": 1, "t": 0.0} and after.of("a") == {"k": 2, "t": 0.0}
    assert before.differs_in(after) == ["a"] and before.digest != after.digest
    assert before.component_digest("b") == after.component_digest("b")
    assert before.of("none") == {}


def test_a_prompt_reads_back_and_shows_demonstrations_in_the_order_of_the_open_example() -> None:
    prompt = Prompt("Do.", "completion", (Demonstration({"question": "q1", "context": "c1"}, "a1"),))
    loaded = Prompt.from_json(json.loads(canonical_json(prompt.to_json())))
    inputs = {"question": "q2", "context": "c2"}
    assert loaded.text(inputs, "answer") == prompt.text(inputs, "answer")
    assert loaded.messages(inputs, "answer") == prompt.messages(inputs, "answer")
    assert prompt.text(inputs, "answer") == ("Do.\n\nQuestion: q1\nContext: c1\nAnswer: a1\n\nQuestion: q2\nContext: c2\nAnswer:")
