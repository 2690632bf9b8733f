"""Collecting preference data: the incumbent first, upstream once, only downstream rolled out, racing that saves, no gold answers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from optimas_core.canonical import derive_seed
from optimas_core.models import Scripted, llm
from optimas_core.preferences import INCUMBENT, Collected, Variant, collect, distinct, variants
from optimas_core.rollouts import Budget, RolloutEngine
from optimas_core.spec import BudgetSettings, PreferenceSettings
from optimas_core.system import (
    Choice,
    Component,
    CompoundSystem,
    Example,
    ModelChoice,
    NumberGrid,
    PromptSpace,
    component,
)

GOLD = "THE GOLD ANSWER"


def exact(example: Mapping[str, Any], outputs: Mapping[str, Any]) -> float:
    return float(outputs["answer"] == example["expected"])


def examples(count: int) -> list[Example]:
    return [Example(f"e{index}", {"question": f"q{index}", "expected": GOLD}) for index in range(count)]


class World:
    """rewrite -> retrieve(k) -> answer, with counts. The answer is right with a chance that grows with k."""

    def __init__(self, *, stochastic: bool) -> None:
        self.ran: Counter[str] = Counter()
        ran = self.ran

        def rewrite(question: str) -> str:
            ran["rewrite"] += 1
            return question.upper()

        def retrieve(query: str, k: int = 1) -> list[str]:
            ran["retrieve"] += 1
            return [query] * k

        def answer(passages: list[str]) -> str:
            ran["answer"] += 1
            return GOLD if len(passages) >= 3 else "wrong"

        def guess(passages: list[str], seed: int) -> str:
            ran["answer"] += 1
            right = len(passages) >= 3 if len(passages) != 2 else seed % 2 == 0
            return GOLD if right else "wrong"

        parts = [
            component(rewrite, outputs="query", blocking=False),
            component(retrieve, outputs="passages", space={"k": NumberGrid(1, 2, 3, 4)}, blocking=False),
            component(guess if stochastic else answer, name="answer", outputs="answer", blocking=False),
        ]
        system = CompoundSystem(parts, outputs=["answer"], metric=exact)
        self.engine = RolloutEngine(system, Budget(BudgetSettings()))

    def collect(self, count: int, **settings: Any) -> Collected:
        proposals = settings.pop("proposals", ())
        return asyncio.run(
            collect(
                self.engine,
                "retrieve",
                examples(count),
                self.engine.system.configuration,
                PreferenceSettings(**settings),
                stage="test",
                iteration=0,
                seed=1,
                proposals=proposals,
            )
        )


def test_upstream_runs_once_per_example_and_deterministic_rollouts_once_per_candidate() -> None:
    world = World(stochastic=False)
    data = world.collect(5, candidates=4, rollouts=4)
    assert world.ran == {"rewrite": 5, "retrieve": 20, "answer": 20}
    assert [item.example_id for item in data.inputs] == [f"e{index}" for index in range(5)]
    assert data.inputs[0].context == {"query": "Q0"}
    assert data.inputs[0].candidates[0].labels == (INCUMBENT,) and data.inputs[0].candidates[0].output == {"passages": ["Q0"]}
    assert data.rollouts_done == 20 and data.rollouts_saved == 60, "one rollout is exact"
    lengths = {(len(pair.chosen.output["passages"]), len(pair.rejected.output["passages"])) for pair in data.inputs[0].pairs}
    assert lengths == {(3, 1), (3, 2), (4, 1), (4, 2)}
    assert all(pair.se_chosen == pair.se_rejected == 0.0 for pair in data.inputs[0].pairs)


def test_racing_saves_rollouts_and_keeps_the_labels_of_a_clear_case() -> None:
    raced, full = World(stochastic=True), World(stochastic=True)
    with_racing = raced.collect(12, candidates=3, rollouts=8, racing=True, min_gap_se=1.0)
    without = full.collect(12, candidates=3, rollouts=8, racing=False, min_gap_se=1.0)
    assert without.rollouts_saved == 0 and without.rollouts_done == 12 * 3 * 8
    assert with_racing.rollouts_done + with_racing.rollouts_saved == without.rollouts_done
    assert with_racing.rollouts_done < 0.9 * without.rollouts_done
    for record in with_racing.inputs:
        if {len(item.output["passages"]) for item in record.candidates} == {1, 3, 4}:
            repeats = Counter(len(output["passages"]) for _, _, output, _ in record.rollouts)
            assert repeats == {1: 2, 3: 8, 4: 8}, "the clearly worse one is decided, the two equal ones are not"

    def clear(data: Collected) -> set[tuple[str, int, int]]:
        return {
            (record.example_id, len(pair.chosen.output["passages"]), len(pair.rejected.output["passages"]))
            for record in data.inputs
            for pair in record.pairs
            if 2 not in (len(pair.chosen.output["passages"]), len(pair.rejected.output["passages"]))
        }

    assert clear(with_racing) == clear(without) != set()
    assert {left > right for _, left, right in clear(without)} == {True}


def test_proposals_are_candidates_beside_the_incumbents() -> None:
    data = World(stochastic=False).collect(2, candidates=2, proposals=[Variant("proposal:0", {"k": 4})])
    for record in data.inputs:
        assert any("proposal:0" in item.labels for item in record.candidates)
        assert sum(len(item.labels) for item in record.candidates) == 3


def test_the_expected_answer_is_never_a_candidate() -> None:
    parts = [
        component(
            lambda question, style="plain": f"{style} guess",
            name="answer",
            outputs="answer",
            space={"style": Choice("plain", "bold")},
        )
    ]
    engine = RolloutEngine(CompoundSystem(parts, outputs=["answer"], metric=exact), Budget(BudgetSettings()))
    data = asyncio.run(
        collect(
            engine,
            "answer",
            examples(4),
            engine.system.configuration,
            PreferenceSettings(),
            stage="s",
            iteration=0,
            seed=0,
        )
    )
    outputs = [item.output for record in data.inputs for item in record.candidates]
    assert outputs and GOLD not in str(outputs) and GOLD not in str([record.context for record in data.inputs])


def test_a_column_named_as_a_skipped_field_is_no_input() -> None:
    def answer(question: str, hint: str = "none", k: int = 1) -> str:
        return hint + str(k)

    parts = [
        component(lambda question: "a hint", name="hinter", outputs="hint", when=lambda question: False),
        component(answer, outputs="answer", space={"k": Choice(1, 2)}),
    ]
    engine = RolloutEngine(CompoundSystem(parts, outputs=["answer"], metric=exact), Budget(BudgetSettings()))
    rows = [Example("e0", {"question": "q", "hint": GOLD, "expected": GOLD})]
    data = asyncio.run(collect(engine, "answer", rows, engine.system.configuration, PreferenceSettings(), stage="s", iteration=0, seed=0))
    assert data.inputs[0].context == {"question": "q", "hint": "none"}


def test_examples_whose_upstream_failed_or_where_the_component_is_skipped_are_left_out() -> None:
    def rewrite(question: str) -> str:
        if question == "q1":
            raise ValueError("on purpose")
        return question

    parts = [
        component(rewrite, outputs="query"),
        component(
            lambda query, k=1: query * k,
            name="answer",
            outputs="answer",
            space={"k": Choice(1, 2)},
            when=lambda query: query != "q2",
        ),
    ]
    engine = RolloutEngine(CompoundSystem(parts, outputs=["answer"], metric=exact), Budget(BudgetSettings()))
    data = asyncio.run(
        collect(
            engine,
            "answer",
            examples(4),
            engine.system.configuration,
            PreferenceSettings(),
            stage="s",
            iteration=0,
            seed=0,
        )
    )
    assert [record.example_id for record in data.inputs] == ["e0", "e3"]


# Variants


def language_model(**options: Any) -> Component:
    return llm(
        "writer",
        inputs=["question"],
        output="text",
        model=[Scripted(["x"], id="m1"), Scripted(["x"], id="m2")],
        prompt="Write.",
        **options,
    )


def of(item: Component, count: int, example_id: str = "e0", seed: int = 0, **knobs: Any) -> list[Variant]:
    return variants(item, knobs, count=count, temperature=0.9, example_id=example_id, seed=seed)


def test_the_incumbent_comes_first_and_no_variant_repeats_it() -> None:
    item = component(lambda q, k=3: q, name="c", outputs="o", space={"k": NumberGrid(1, 3, 5)})
    found = of(item, 5, k=5)
    assert found[0] == Variant(INCUMBENT, {"k": 5})
    assert {variant.knobs["k"] for variant in found[1:]} == {1, 3} and len(found) == 3
    assert len(of(item, 2)) == 2 and len(of(item, 1)) == 1


def test_a_language_model_explores_formats_models_and_temperature() -> None:
    item = language_model(space={"prompt": PromptSpace(), "model": ModelChoice("m1", "m2")})
    found = of(item, 6)
    assert found[0].label == INCUMBENT and found[0].knobs["temperature"] == 0.0
    labels = {variant.label for variant in found}
    assert {"format=completion", "model=m2"} <= labels
    hot = [variant for variant in found if "sample" in variant.label]
    assert len(hot) == 3 and {variant.knobs["temperature"] for variant in hot} == {0.9}
    assert {variant.knobs["prompt"]["format"] for variant in hot} == {"chat", "completion"}
    assert len({(variant.repeat, variant.knobs["prompt"]["format"]) for variant in hot}) == 3, "each sample is another draw"


def test_which_values_are_tried_is_drawn_from_the_example_and_the_seed() -> None:
    item = component(lambda q, k=0: q, name="c", outputs="o", space={"k": NumberGrid(*range(20))})
    assert of(item, 4) == of(item, 4)
    draws = {tuple(variant.knobs["k"] for variant in of(item, 4, example_id=f"e{index}")) for index in range(10)}
    assert len(draws) > 5
    assert of(item, 4, seed=1) != of(item, 4, seed=2)


def test_equal_outputs_are_one_candidate_with_every_label() -> None:
    found = distinct([("a", {"x": 1, "y": 2}), ("b", None), ("c", {"y": 2, "x": 1}), ("d", {"x": 1, "y": 3})])
    assert [item.labels for item in found] == [("a", "c"), ("d",)]


@pytest.mark.parametrize("seed", range(3))
def test_collecting_does_not_disturb_the_global_generator(seed: int) -> None:
    import random

    random.seed(derive_seed("outer", seed))
    expected = random.Random(derive_seed("outer", seed)).random()
    World(stochastic=True).collect(2, candidates=3)
    assert random.random() == expected
