"""The language-model component: what it asks, how it reads the reply, what it may cost, what is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimas_core.errors import FormatError, SystemDefinitionError
from optimas_core.models import Message, ModelRequest, Price, Scripted, llm
from optimas_core.system import (
    CallContext,
    Component,
    CompoundSystem,
    Demonstration,
    ModelChoice,
    NumberGrid,
    Prompt,
    PromptSpace,
)

SHOTS = (
    Demonstration({"context": "c1", "question": "q1"}, "a1"),
    Demonstration({"question": "q2", "context": "c2"}, "a2"),
)
INPUTS = {"question": "Which river?", "context": ["Cologne lies on the Rhine.", "Second."]}


class Asked:
    """A scripted model that keeps what it was asked."""

    def __init__(self, *replies: str, **options: Any) -> None:
        self.requests: list[ModelRequest] = []
        self.model = Scripted(self._answer, **options)
        self._replies = replies

    def _answer(self, request: ModelRequest, attempt: int) -> str:
        self.requests.append(request)
        return self._replies[(len(self.requests) - 1) % len(self._replies)]


def run(item: Component, inputs: Mapping[str, Any] = INPUTS, seed: int = 7, **knobs: Any) -> Mapping[str, Any]:
    return asyncio.run(item.body(inputs, {**item.defaults, **knobs}, CallContext(seed)))


def answerer(asked: Asked, **options: Any) -> Component:
    arguments: dict[str, Any] = {
        "inputs": ["question", "context"],
        "output": "answer",
        "prompt": Prompt("Be brief.", "chat", SHOTS),
    }
    return llm("answerer", model=asked.model, **{**arguments, **options})


def test_chat_shows_demonstrations_as_turns_in_the_order_of_the_inputs() -> None:
    asked = Asked(" Rhine \n")
    assert run(answerer(asked)) == {"answer": "Rhine"}
    request = asked.requests[0]
    assert request.prompt is None
    assert request.messages == (
        Message("system", "Be brief."),
        Message("user", "Question: q1\nContext: c1"),
        Message("assistant", "a1"),
        Message("user", "Question: q2\nContext: c2"),
        Message("assistant", "a2"),
        Message("user", "Question: Which river?\nContext: Cologne lies on the Rhine.\nSecond."),
    )


def test_completion_ends_in_the_open_label() -> None:
    asked = Asked("Rhine")
    run(answerer(asked, prompt=Prompt("Be brief.", "completion", SHOTS), output="short_answer"))
    request = asked.requests[0]
    assert request.messages == ()
    assert request.prompt == (
        "Be brief.\n\nQuestion: q1\nContext: c1\nShort answer: a1\n\nQuestion: q2\nContext: c2\nShort answer: a2\n\n"
        "Question: Which river?\nContext: Cologne lies on the Rhine.\nSecond.\nShort answer:"
    )
    assert request.sampling.stop == ("\n\n",)


def test_only_declared_inputs_are_shown() -> None:
    asked = Asked("x")
    run(answerer(asked, prompt="P"), {**INPUTS, "expected": "GOLD"})
    assert "GOLD" not in str(asked.requests)


def test_a_single_line_stops_there_and_keeps_the_first_line_with_text() -> None:
    asked = Asked("\n\n Rhine \nand more")
    assert run(answerer(asked, single_line=True, stop=["###"])) == {"answer": "Rhine"}
    assert asked.requests[0].sampling.stop == ("###", "\n")
    assert run(answerer(Asked(""), single_line=True)) == {"answer": ""}


def test_knobs_reach_the_request() -> None:
    asked = Asked("x")
    run(answerer(asked), temperature=0.5, top_p=0.9, max_tokens=12, adapter="a-1")
    request = asked.requests[0]
    assert (request.sampling.temperature, request.sampling.top_p, request.sampling.max_tokens) == (0.5, 0.9, 12)
    assert request.adapter == "a-1"


def test_sampling_is_seeded_and_greedy_decoding_is_not() -> None:
    asked = Asked("x")
    item = answerer(asked)
    run(item, seed=2**63 - 1, temperature=1.0)
    run(item, seed=5, temperature=1.0)
    run(item, seed=5, temperature=0.0)
    first, second, third = (request.sampling.seed for request in asked.requests)
    assert first is not None and 0 <= first < 2**31 and second == 5 and third is None
    assert item.deterministic({**item.defaults, "temperature": 0.0}) and not item.deterministic({**item.defaults, "temperature": 0.1})


def test_the_model_knob_chooses_the_client() -> None:
    one, two = Asked("one", id="m1"), Asked("two", id="m2")
    item = llm(
        "a",
        inputs=["question"],
        output="answer",
        model=[one.model, two.model],
        prompt="P",
        space={"model": ModelChoice("m1", "m2")},
    )
    assert item.defaults["model"] == "m1" and run(item) == {"answer": "one"} and run(item, model="m2") == {"answer": "two"}


# Reading the reply


def test_parse_makes_the_value_and_its_failures_are_format_errors() -> None:
    import re

    assert run(answerer(Asked(" 12 "), parse=int)) == {"answer": 12}
    matched = lambda text: re.search(r"\d+", text).group()  # type: ignore[union-attr]  # noqa: E731
    for parse, reply in (
        (int, "twelve"),
        (matched, "twelve"),
        (lambda text: text.split()[5], "a"),
        (lambda text: {"a": 1}[text], "b"),
    ):
        with pytest.raises(FormatError, match="answerer"):
            run(answerer(Asked(reply), parse=parse))


@pytest.mark.parametrize("reply", ["nan", "inf", "-Infinity"])
def test_a_number_that_is_not_finite_is_a_reply_in_another_form(reply: str) -> None:
    with pytest.raises(FormatError, match="finite"):
        run(answerer(Asked(reply), parse=float))


def test_several_outputs_are_one_json_object() -> None:
    asked = Asked('{"answer": "Rhine", "score": 0.5, "more": 1}')
    item = answerer(asked, output=["answer", "score"])
    assert run(item) == {"answer": "Rhine", "score": 0.5}
    assert "Reply with one JSON object with the keys: answer, score." in asked.requests[0].messages[0].content
    assert run(answerer(Asked('```json\n{"answer": "a", "score": null}\n```'), output=["answer", "score"])) == {
        "answer": "a",
        "score": None,
    }


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "Rhine",
        "[1, 2]",
        '"answer"',
        '{"answer": "a"}',
        '{"answer": 1, "score": NaN}',
        '{"answer": 1, "score": 1e999}',
        "[" * 100_000,
    ],
)
def test_anything_else_is_a_format_error(reply: str) -> None:
    with pytest.raises(FormatError):
        run(answerer(Asked(reply), output=["answer", "score"]))


@settings(max_examples=60, deadline=None)
@given(st.text())
def test_no_reply_raises_anything_but_a_format_error(reply: str) -> None:
    assert run(answerer(Asked(reply))) == {"answer": reply.strip()}
    try:
        outputs = run(answerer(Asked(reply), output=["answer", "score"]))
    except FormatError:
        return
    assert set(outputs) == {"answer", "score"}


# Cost


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=300), st.sampled_from(["chat", "completion"]), st.integers(1, 64), st.integers(0, 2))
def test_the_worst_case_is_an_upper_bound(text: str, form: Any, max_tokens: int, shots: int) -> None:
    model = Scripted(lambda request, attempt: "x" * request.sampling.max_tokens, price=Price(3.0, 9.0))
    prompt = Prompt("Answer.", form, SHOTS[:shots])
    item = llm("answerer", inputs=["question", "context"], output="answer", model=model, prompt=prompt, max_tokens=max_tokens)
    inputs = {"question": text, "context": "c"}
    worst = item.worst_case(inputs, item.defaults)
    context = CallContext(0)
    asyncio.run(item.body(inputs, item.defaults, context))
    call = context.usage[0]
    assert call.tokens_in + call.tokens_out <= worst.tokens
    assert call.usd is not None and worst.usd is not None and call.usd <= worst.usd


def test_an_unknown_price_has_no_worst_case_in_usd() -> None:
    item = answerer(Asked("x", price=None))
    assert item.worst_case(INPUTS, item.defaults).usd is None


def test_what_a_call_cost_is_recorded() -> None:
    context = CallContext(0)
    item = answerer(Asked("Rhine", id="vendor/m", price=Price(1.0, 1.0)))
    asyncio.run(item.body(INPUTS, item.defaults, context))
    assert [call.model for call in context.usage] == ["vendor/m"] and context.usage[0].usd


# Refused


def test_impossible_definitions_are_refused() -> None:
    asked = Asked("x")
    with pytest.raises(SystemDefinitionError, match="no knob 'k'"):
        answerer(asked, space={"k": NumberGrid(1, 2)})
    with pytest.raises(SystemDefinitionError, match="at least one model"):
        llm("a", inputs=["q"], output="o", model=[], prompt="P")
    with pytest.raises(SystemDefinitionError, match="its own id"):
        llm("a", inputs=["q"], output="o", model=[asked.model, Asked("y").model], prompt="P")
    with pytest.raises(SystemDefinitionError, match="'m9'"):
        answerer(asked, space={"model": ModelChoice(asked.model.id, "m9")})
    with pytest.raises(SystemDefinitionError, match="several outputs"):
        answerer(asked, output=["a", "b"], parse=int)


def test_the_fingerprint_follows_the_parse_function() -> None:
    asked = Asked("x")
    prints = {
        answerer(asked, parse=parse).fingerprint for parse in (None, lambda text: text.upper(), lambda text: text.lower(), int, float)
    }
    assert len(prints) == 5
    assert answerer(asked).fingerprint == answerer(asked, temperature=0.5).fingerprint, "knobs have their own digest"


def test_a_system_with_a_prompt_runs_after_its_configuration_went_through_json() -> None:
    asked = Asked("Rhine")
    item = answerer(asked, space={"prompt": PromptSpace()})
    system = CompoundSystem([item], outputs=["answer"], metric=lambda example, outputs: 1.0)
    stored = type(system.configuration).from_json(json.loads(json.dumps(system.configuration.to_json(), sort_keys=True)))
    assert stored.digest == system.configuration.digest
    assert system(**INPUTS) == system(**INPUTS, configuration=stored) == {"answer": "Rhine"}
    assert asked.requests[0] == asked.requests[1]
