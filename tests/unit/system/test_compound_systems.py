"""The graph: order, edges that depend on the example, final fields, what is refused, calls inside and outside a loop."""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimas_core.errors import ConfigurationError, MetricError, SystemDefinitionError
from optimas_core.system import Component, CompoundSystem, Configuration, NumberGrid, component, execute


def always_one(example: Mapping[str, Any], outputs: Mapping[str, Any]) -> float:
    return 1.0


def step(name: str, inputs: str, outputs: str, **options: Any) -> Component:
    """A component that writes its name and what it read."""

    def body(**values: Any) -> dict[str, str]:
        return {out: f"{name}({','.join(str(values[field]) for field in sorted(values))})" for out in outputs.split()}

    return component(body, name=name, inputs=inputs.split(), outputs=outputs.split(), blocking=False, **options)


def build(*components: Component, outputs: str = "answer", **options: Any) -> CompoundSystem:
    return CompoundSystem(list(components), outputs=outputs.split(), metric=options.pop("metric", always_one), **options)


def chain() -> CompoundSystem:
    return build(
        step("answer", "passages", "answer"),
        step("retrieve", "query", "passages"),
        step("rewrite", "question", "query"),
    )


def test_components_run_in_topological_order_whatever_the_order_they_are_given_in() -> None:
    system = chain()
    assert list(system.components) == ["rewrite", "retrieve", "answer"]
    assert system.inputs == ("question",)
    assert system(question="x") == {"answer": "answer(retrieve(rewrite(x)))"}
    assert system.upstream("answer") == {"rewrite", "retrieve"} and system.downstream("rewrite") == {
        "retrieve",
        "answer",
    }
    assert system.upstream("rewrite") == system.downstream("answer") == frozenset()
    assert system.writer("query") == "rewrite" and system.writer("question") is None


def test_a_system_answers_inside_a_running_loop_too() -> None:
    async def notebook() -> dict[str, Any]:
        return chain()(question="x")

    async def asynchronous() -> dict[str, Any]:
        return await chain().acall(question="x")

    assert asyncio.run(notebook()) == asyncio.run(asynchronous()) == chain()(question="x")


def test_an_error_reaches_the_caller_inside_a_running_loop() -> None:
    def broken(question: str) -> str:
        raise ZeroDivisionError("on purpose")

    async def notebook() -> None:
        build(component(broken, outputs="answer"))(question="x")

    with pytest.raises(ZeroDivisionError):
        asyncio.run(notebook())


def test_a_missing_input_is_named() -> None:
    with pytest.raises(ConfigurationError, match="'question'"):
        chain()(other="x")


def test_the_expected_answer_beside_the_inputs_is_never_read_as_an_output() -> None:
    system = build(
        step("answer", "question", "answer", when=lambda question: question != "skip"),
        step("judge", "answer", "verdict"),
        outputs="answer verdict",
    )
    assert system(question="x", answer="GOLD")["verdict"] == "judge(answer(x))"
    assert system(question="skip", answer="GOLD") == {"answer": None, "verdict": None}


# Dynamic edges


def routed() -> CompoundSystem:
    def join(question: str, short: str = "", long: str = "") -> str:
        return f"[{short}{long}]"

    return build(
        step("route", "question", "kind"),
        step("short", "question", "short", when=lambda kind: "s" in kind.split("(")[1]),
        step("long", "question", "long", when=lambda kind: "s" not in kind.split("(")[1]),
        component(join, outputs="answer"),
    )


def test_an_example_takes_its_own_route() -> None:
    system = routed()
    assert system(question="s") == {"answer": "[short(s)]"}
    assert system(question="l") == {"answer": "[long(l)]"}
    trajectory = asyncio.run(system.trace(question="l"))
    assert {name: item.status for name, item in trajectory.steps.items()} == {
        "route": "ran",
        "short": "skipped",
        "long": "ran",
        "join": "ran",
    }


def test_consumers_of_a_skipped_component_are_skipped_unless_it_says_otherwise() -> None:
    never = {"when": lambda question: False}
    bare = build(step("a", "question", "middle", **never), step("b", "middle", "answer"))
    assert bare(question="x") == {"answer": None}
    filled = build(step("a", "question", "middle", otherwise={"middle": "none"}, **never), step("b", "middle", "answer"))
    assert filled(question="x") == {"answer": "b(none)"}


def test_a_condition_on_a_field_nobody_writes_makes_it_an_input_so_that_a_typo_is_found() -> None:
    system = build(step("a", "question", "answer", when=lambda needs_search: needs_search))
    assert system.inputs == ("question", "needs_search")
    with pytest.raises(ConfigurationError, match="needs_search"):
        system(question="x")
    assert system(question="x", needs_search=True) == {"answer": "a(x)"}


def test_a_final_field_may_come_from_an_early_component() -> None:
    system = build(step("first", "question", "early middle"), step("last", "middle", "late"), outputs="early late")
    assert system(question="x") == {"early": "first(x)", "late": "last(first(x))"}


# What is refused


def test_cycles_two_writers_and_missing_writers_are_refused() -> None:
    with pytest.raises(SystemDefinitionError, match=r"a -> b form a cycle"):
        build(step("a", "y", "x"), step("b", "x", "y answer"))
    with pytest.raises(SystemDefinitionError, match=r"'x' has two writers, 'a' and 'b'"):
        build(step("a", "q", "x"), step("b", "q", "x answer"))
    with pytest.raises(SystemDefinitionError, match="no component writes the final field 'answer'"):
        build(step("a", "q", "x"))
    with pytest.raises(SystemDefinitionError, match="two components are named 'a'"):
        build(step("a", "q", "x"), step("a", "q", "answer"))
    with pytest.raises(SystemDefinitionError, match="no components"):
        build()


def test_types_that_cannot_meet_are_refused_before_anything_runs() -> None:
    def retrieve(query: str) -> list[str]:
        raise AssertionError("never called")

    def answer(passages: str) -> str:
        raise AssertionError("never called")

    with pytest.raises(SystemDefinitionError, match="'passages'"):
        build(component(retrieve, outputs="passages"), component(answer, outputs="answer"))


def test_a_start_value_outside_its_space_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"f\.k = 4"):
        build(component(lambda question, k=4: k, name="f", outputs="answer", space={"k": NumberGrid(1, 5)}))


@pytest.mark.parametrize("returned", [math.nan, math.inf, "1.0", None, 1.5, -0.5, numpy.float64("nan")])
def test_a_metric_that_gives_no_score_in_its_range_is_an_error(returned: Any) -> None:
    system = build(step("a", "question", "answer"), metric=lambda example, outputs: returned)
    with pytest.raises(MetricError):
        system.score({}, {})


def test_a_metric_that_raises_is_a_metric_error() -> None:
    system = build(step("a", "question", "answer"), metric=lambda example, outputs: example["absent"])
    with pytest.raises(MetricError, match="KeyError"):
        system.score({}, {})


@pytest.mark.parametrize(("returned", "score"), [(True, 1.0), (1, 1.0), (numpy.float32(0.5), 0.5), (numpy.bool_(True), 1.0)])
def test_scores_are_plain_floats(returned: Any, score: float) -> None:
    value = build(step("a", "question", "answer"), metric=lambda example, outputs: returned).score({}, {})
    assert type(value) is float and value == score


def test_a_metric_takes_two_arguments_and_may_take_more() -> None:
    build(step("a", "question", "answer"), metric=lambda example, outputs, trace=None: 1.0)
    with pytest.raises(SystemDefinitionError, match="two arguments"):
        build(step("a", "question", "answer"), metric=lambda example: 1.0)


# Order and state


_ORDER = """
from optimas_core.system import CompoundSystem, component
parts = [component(lambda **v: 1, name=n, inputs=list(i), outputs=[n], blocking=False) for n, i in
         {"g": "fe", "f": "ba", "e": "dc", "d": "q", "c": "q", "b": "q", "a": "q"}.items()]
system = CompoundSystem(parts, outputs=["g"], metric=lambda e, o: 1.0)
print(list(system.components), system.inputs, system.optimizable, sorted(system.upstream("g")))
"""


def test_the_order_does_not_depend_on_the_hash_seed() -> None:
    said = set()
    for seed in ("0", "1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", _ORDER], env=environment, capture_output=True, text=True, check=True)
        said.add(done.stdout)
    assert said == {"['d', 'c', 'e', 'b', 'a', 'f', 'g'] ('q',) () ['a', 'b', 'c', 'd', 'e', 'f']\n"}


@given(st.integers(1, 7), st.data())
def test_every_order_of_components_is_topological(count: int, data: st.DataObject) -> None:
    parts = []
    for index in range(count):
        reads = data.draw(st.sets(st.integers(0, index - 1))) if index else set()
        parts.append(step(f"c{index}", " ".join(f"f{item}" for item in sorted(reads)) or "q", f"f{index}"))
    system = build(*data.draw(st.permutations(parts)), outputs=f"f{count - 1}")
    seen: set[str] = set()
    for name in system.components:
        assert system.upstream(name) <= seen
        seen.add(name)
        for other in system.components:
            assert (other in system.upstream(name)) == (name in system.downstream(other))


def test_two_calls_at_once_see_their_own_configuration() -> None:
    met = threading.Barrier(2)  # both bodies are inside at the same moment, or this fails

    def retrieve(question: str, k: int = 5) -> str:
        met.wait(timeout=20)
        return f"{question}:{k}"

    item = component(retrieve, outputs="answer", space={"k": NumberGrid(1, 5, 25)})
    system = build(item)

    async def both() -> list[Any]:
        one = system.configuration.replace("retrieve", {"k": 1})
        many = system.configuration.replace("retrieve", {"k": 25})
        calls = (system.acall(question="x", configuration=one), system.acall(question="x", configuration=many))
        return list(await asyncio.gather(*calls))

    assert asyncio.run(both()) == [{"answer": "x:1"}, {"answer": "x:25"}]
    assert system.configuration.of("retrieve") == {"k": 5} and item.defaults == {"k": 5}


def test_a_configuration_is_checked_before_a_call() -> None:
    system = build(component(lambda question, k=1: k, name="f", outputs="answer", space={"k": NumberGrid(1, 5)}, blocking=False))
    for knobs, said in (({"f": {"k": 3}}, "f.k = 3"), ({"g": {"k": 1}}, "'g'"), ({"f": {"j": 1}}, "'j'")):
        with pytest.raises(ConfigurationError, match=said):
            system(question="x", configuration=Configuration(knobs))
    with pytest.raises(ConfigurationError, match="per input"):
        system(question="x", configuration=Configuration({"f": {"k": {"per_input": [1, 5], "lrf": "x"}}}))


def test_partial_executions() -> None:
    system, ran = chain(), []

    async def invoke(item: Component, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        ran.append(item.name)
        return {name: item.name for name in item.outputs}

    fields = {"question": "x"}
    upto = asyncio.run(execute(system, fields, invoke, until="answer"))
    assert ran == ["rewrite", "retrieve"] and list(upto.steps) == ran
    ran.clear()
    given = {"rewrite": {"query": "fixed"}, "retrieve": {"passages": "fixed too"}}
    whole = asyncio.run(execute(system, fields, invoke, given=given))
    assert ran == ["answer"]
    assert [item.status for item in whole.steps.values()] == ["given", "given", "ran"]
    assert whole.steps["answer"].inputs == {"passages": "fixed too"}


def test_the_first_error_in_topological_order_is_raised_and_independent_components_finish() -> None:
    finished = []

    async def late_error(question: str) -> str:
        await asyncio.sleep(0.02)
        raise ValueError("first in order")

    async def early_error(question: str) -> str:
        raise KeyError("first in time")

    async def fine(question: str) -> str:
        await asyncio.sleep(0.03)
        finished.append("c")
        return "c"

    parts = [component(f, outputs=n) for f, n in ((late_error, "a"), (early_error, "b"), (fine, "c"))]
    with pytest.raises(ValueError, match="first in order"):
        build(*parts, outputs="c")(question="x")
    assert finished == ["c"]


def test_the_fingerprint_covers_structure_conditions_and_the_metric() -> None:
    base = build(step("a", "question", "answer")).fingerprint
    assert base == build(step("a", "question", "answer")).fingerprint
    assert base != build(step("a", "question other", "answer")).fingerprint
    assert base != build(step("a", "question", "answer", when=lambda question: True)).fingerprint
    assert base != build(step("a", "question", "answer"), metric=lambda example, outputs: 0.0).fingerprint
    assert base != build(step("a", "question", "answer"), metric_range=(0.0, 2.0)).fingerprint
