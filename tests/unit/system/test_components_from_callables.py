"""Components made of functions, coroutine functions and objects; what their signature and annotations say."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict

import pytest
from pydantic import BaseModel

from optimas_core.errors import ConfigurationError, SystemDefinitionError
from optimas_core.system import CallContext, Choice, Component, NumberGrid, component


def run(item: Component, inputs: Mapping[str, Any], knobs: Mapping[str, Any] | None = None, seed: int = 0) -> Any:
    return asyncio.run(item.body(inputs, {**item.defaults, **(knobs or {})}, CallContext(seed)))


def shout(text: str, times: int = 1) -> str:
    return text.upper() * times


async def whisper(text: str) -> str:
    await asyncio.sleep(0)
    return text.lower()


class Counter:
    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, number: int) -> int:
        return number + self.step


class AsyncCounter:
    async def __call__(self, number: int) -> int:
        return number + 2


class Prediction:
    """As DSPy returns: an object whose attributes are the outputs."""

    def __init__(self, answer: str, reason: str) -> None:
        self.answer = answer
        self.reason = reason


class Module:
    def __call__(self, question: str) -> Prediction:
        return Prediction(answer=question[::-1], reason="reversed")


def test_a_function_becomes_a_component_and_stays_what_it_was() -> None:
    item = component(shout, outputs="loud", space={"times": NumberGrid(1, 2)})
    assert (item.name, item.inputs, item.outputs, dict(item.defaults)) == ("shout", ("text",), ("loud",), {"times": 1})
    assert item.optimizable and item.deterministic({})
    assert run(item, {"text": "a"}, {"times": 2}) == {"loud": "AA"}
    assert shout("a") == "A" and shout("a", times=3) == "AAA"


@pytest.mark.parametrize(
    ("function", "inputs", "expected"),
    [
        (whisper, {"text": "A"}, "a"),
        (Counter(3), {"number": 4}, 7),
        (AsyncCounter(), {"number": 4}, 6),
        (Counter(5).__call__, {"number": 4}, 9),
        (functools.partial(shout, times=2), {"text": "a"}, "AA"),
        (lambda text: whisper(text), {"text": "A"}, "a"),
    ],
)
def test_anything_callable_serves(function: Any, inputs: dict[str, Any], expected: Any) -> None:
    item = component(function, outputs="out", name="c", inputs=tuple(inputs))
    assert run(item, inputs) == {"out": expected}


def test_outputs_are_read_from_attributes_mappings_and_named_tuples() -> None:
    class Pair(NamedTuple):
        answer: str
        reason: str

    def as_mapping(question: str) -> dict[str, str]:
        return {"answer": question, "reason": "none", "extra": "dropped"}

    def as_tuple(question: str) -> Pair:
        return Pair(question, "none")

    two = ["answer", "reason"]
    assert run(component(Module(), outputs=two), {"question": "ab"}) == {"answer": "ba", "reason": "reversed"}
    assert run(component(as_mapping, outputs=two), {"question": "ab"}) == {"answer": "ab", "reason": "none"}
    assert run(component(as_tuple, outputs=two), {"question": "ab"}) == {"answer": "ab", "reason": "none"}
    assert run(component(Module(), outputs="answer"), {"question": "ab"}) == {"answer": "ba"}


def test_a_text_is_never_taken_apart_by_its_methods() -> None:
    assert run(component(lambda text: text, outputs="count", name="c"), {"text": "abc"}) == {"count": "abc"}
    assert run(component(lambda items: items, outputs="index", name="c"), {"items": [1]}) == {"index": [1]}


def test_missing_outputs_name_the_component() -> None:
    item = component(lambda question: "text", outputs=["answer", "reason"], name="judge")
    with pytest.raises(SystemDefinitionError, match="judge"):
        run(item, {"question": "x"})


def test_a_parameter_called_seed_gets_one_and_makes_it_stochastic() -> None:
    item = component(lambda text, seed: f"{text}{seed}", outputs="out", name="noisy")
    assert item.inputs == ("text",)
    assert not item.deterministic({})
    assert run(item, {"text": "a"}, seed=7) == {"out": "a7"}


def test_a_parameter_with_a_default_is_an_optional_input() -> None:
    item = component(lambda text, hint="none": text + hint, outputs="out", name="c")
    assert item.inputs == ("text",) and item.optional_inputs == {"hint": "none"}
    assert item.reads == ("text", "hint")


def test_escaping_stop_iteration_is_an_error_and_does_not_wait_for_ever() -> None:
    def first(items: list[str]) -> str:
        return next(iter(items))

    async def bounded() -> None:
        item = component(first, outputs="out")
        await asyncio.wait_for(item.body({"items": []}, {}, CallContext(0)), timeout=5)

    with pytest.raises(RuntimeError, match="StopIteration"):
        asyncio.run(bounded())


# Types


class Typed(TypedDict):
    answer: str
    score: int


@dataclass
class Scored:
    answer: str
    score: int


class Model(BaseModel):
    answer: str


def typed(answer: Any, score: Any) -> Typed:
    return {"answer": answer, "score": score}


def scored(answer: Any, score: Any) -> Scored:
    return Scored(answer, score)


def number(value: Any) -> int:
    return value  # type: ignore[no-any-return]


def texts(value: Any) -> list[str]:
    return value  # type: ignore[no-any-return]


def share(value: Any) -> float:
    return value  # type: ignore[no-any-return]


def rows(value: Any) -> list[Typed]:
    return value  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("function", "value"),
    [(number, "5"), (number, 2.5), (number, None), (number, True), (texts, "abc"), (texts, [1]), (share, "0.5")],
)
def test_an_output_of_another_type_is_refused(function: Any, value: Any) -> None:
    with pytest.raises(SystemDefinitionError, match="'out'"):
        run(component(function, outputs="out"), {"value": value})


@pytest.mark.parametrize(("function", "value"), [(number, 5), (texts, ["a"]), (texts, ("a", "b")), (share, 1), (share, 0.5)])
def test_an_output_that_fits_is_passed_on_unchanged(function: Any, value: Any) -> None:
    assert run(component(function, outputs="out"), {"value": value}) == {"out": value}


@pytest.mark.parametrize("function", [typed, scored])
def test_fields_of_a_returned_class_are_checked(function: Any) -> None:
    item = component(function, outputs=["answer", "score"])
    assert run(item, {"answer": "a", "score": 1}) == {"answer": "a", "score": 1}
    with pytest.raises(SystemDefinitionError, match="'score'"):
        run(item, {"answer": "a", "score": "one"})


def test_a_returned_model_declares_its_fields_not_itself() -> None:
    def predict(question: str) -> Model:
        return Model(answer=question)

    assert run(component(predict, outputs="answer"), {"question": "ab"}) == {"answer": "ab"}


def test_an_annotation_pydantic_cannot_read_declares_nothing() -> None:
    assert run(component(rows, outputs="out"), {"value": [{"answer": "a", "score": 1}]})["out"]


def test_a_mapping_annotation_of_a_single_output_is_not_the_output() -> None:
    def answer(question: str) -> Mapping[str, str]:
        return {"answer": question}

    assert run(component(answer, outputs="answer"), {"question": "ab"}) == {"answer": "ab"}


# Definitions that cannot work


def test_impossible_definitions_are_refused() -> None:
    with pytest.raises(SystemDefinitionError, match="cannot be called"):
        component("text", outputs="out")  # type: ignore[arg-type]
    with pytest.raises(SystemDefinitionError, match="has no outputs"):
        component(shout, outputs=[])
    with pytest.raises(SystemDefinitionError, match="has no default"):
        component(lambda k: k, outputs="out", name="c", space={"k": Choice(1, 2)})
    with pytest.raises(SystemDefinitionError, match="no parameter"):
        component(shout, outputs="out", space={"volume": Choice(1, 2)})
    with pytest.raises(SystemDefinitionError, match="by name"):
        component(str.upper, outputs="out")


def test_knobs_are_checked_against_their_space() -> None:
    item = component(shout, outputs="loud", space={"times": NumberGrid(1, 2)})
    item.check({"times": 2})
    with pytest.raises(ConfigurationError, match=r"shout\.times = 3"):
        item.check({"times": 3})
    with pytest.raises(ConfigurationError, match="no knob 'volume'"):
        item.check({"volume": 1})


# Identity


def test_the_fingerprint_tells_code_and_held_values_apart() -> None:
    def adding(step: int) -> Any:
        return lambda number: number + step

    def print_of(function: Any, **options: Any) -> str:
        return component(function, outputs="out", name="c", **options).fingerprint

    assert print_of(Counter(1)) == print_of(Counter(1)) != print_of(Counter(2))
    assert print_of(adding(1)) == print_of(adding(1)) != print_of(adding(2))
    assert print_of(functools.partial(shout, times=1)) != print_of(functools.partial(shout, times=2))
    one = lambda text: text + "a"  # noqa: E731
    two = lambda text: text + "b"  # noqa: E731
    assert print_of(one) != print_of(two)
    assert print_of(one, version="1") != print_of(one, version="2")
