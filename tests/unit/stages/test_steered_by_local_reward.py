"""Stage local-optimize where a Local Reward Function steers: a stand-in for it scores by rule, no weights are loaded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from optimas_core.optimizers import Proposal
from optimas_core.stages import (
    OptimizeRequest,
    PreferenceRequest,
    StageContext,
    generate_preferences,
    load_project,
    local_optimize,
    open_run,
    read_ranking,
)
from optimas_core.stages._generate_preferences import PROPOSALS_FILE

LRF = "a" * 32


class Shorter:
    """The shorter the output, the better; far from 0, as real rewards may be."""

    def score(self, component: str, items: Sequence[tuple[Any, Any]]) -> list[float]:
        return [1e4 - len(str(output)) for _, output in items]


class Longer:
    def score(self, component: str, items: Sequence[tuple[Any, Any]]) -> list[float]:
        return [float(len(str(output))) for _, output in items]


@pytest.fixture
def optimize(scripted_project: Callable[..., Path]) -> Callable[..., tuple[StageContext, dict[str, Any]]]:
    def run(
        component: str, knob: str, values: list[Any], model: Any, *, low: float = 0.6, now: Any = None, **optimizers: Any
    ) -> tuple[StageContext, dict[str, Any]]:
        project = load_project(
            scripted_project(f"{component}-{len(values)}-{now is None}", optimizers={"proposers": ["edits"], **optimizers})
        )
        context = open_run(project)
        alignment = {"accuracy": 0.8, "low": low, "high": 0.9, "n_pairs": 40, "n_examples": 10}
        metrics = {"alignment": {component: alignment}, "adapted": True}
        context.commit("lrf", LRF, {"metrics.json": json.dumps(metrics).encode()}, {})
        context._models[LRF] = model
        configuration = context.system.configuration
        if now is not None:
            configuration = configuration.replace(component, {knob: now})
        start = context.run.put_configuration(configuration.to_json())
        proposals = [Proposal(component, knob, {knob: value}, "values", str(value)[:30]).to_json() for value in values]
        context.commit("proposals", "b" * 32, {PROPOSALS_FILE: json.dumps(proposals).encode()}, {})
        ids = tuple(example.id for example in context.split.train)
        batch = asyncio.run(generate_preferences(context, PreferenceRequest(1, (component,), start, ids[:6])))
        request = OptimizeRequest(1, component, knob, start, LRF, batch, "b" * 32, (), ids[6:18])
        return context, read_ranking(context, asyncio.run(local_optimize(context, request)))

    return run


Optimize = Callable[..., tuple[StageContext, dict[str, Any]]]


def prompt(instruction: str, form: str = "chat") -> dict[str, Any]:
    return {"instruction": instruction, "format": form, "demonstrations": []}


def test_the_prompt_with_the_highest_mean_local_reward_is_chosen(optimize: Optimize) -> None:
    _, ranking = optimize("answerer", "prompt", [prompt("Go."), prompt("Say nothing else."), prompt("Hm.")], Shorter())
    assert ranking["steered_by"] == "lrf" and ranking["alignment"]["trusted"]
    assert ranking["values"]["prompt"]["instruction"] == "Say nothing else."
    shares = [item["probability"] for item in ranking["candidates"]]
    assert sum(shares) == pytest.approx(1.0) and max(shares) == shares[2]
    assert {item["local_n"] for item in ranking["candidates"]} == {12}


def test_the_incumbent_stays_where_nothing_beats_it(optimize: Optimize) -> None:
    _, ranking = optimize("answerer", "prompt", [prompt("nothing else", "chat"), prompt("Answer.", "completion")], Longer())
    assert ranking["values"] is None and ranking["chosen"] == "incumbent" and "no candidate beat" in ranking["reason"]


def test_an_untrusted_reward_never_steers(optimize: Optimize) -> None:
    """Its interval includes chance: the race on measured rollouts decides against what it would say."""
    _, ranking = optimize("answerer", "prompt", [prompt("Say nothing else.")], Longer(), low=0.45)
    assert ranking["steered_by"] == "measured" and "not better than chance" in ranking["steered_reason"]
    assert ranking["values"]["prompt"]["instruction"] == "Say nothing else."


def test_a_candidate_without_outputs_does_not_sink_the_others(optimize: Optimize) -> None:
    """k = "x" fails on every input; means of the others stay over the same inputs."""
    _, ranking = optimize("lookup", "k", ["x", 2], Longer())
    by_value = {str(item["values"].get("k")): item for item in ranking["candidates"]}
    assert by_value["x"]["local_n"] == 0 and by_value["x"]["local_reward"] is None and by_value["x"]["probability"] is None
    assert ranking["values"] == {"k": 2} and by_value["2"]["local_n"] == by_value["None"]["local_n"] == 12


def test_further_steps_propose_from_the_best_so_far(optimize: Optimize) -> None:
    _, ranking = optimize("answerer", "prompt", [prompt("Say nothing else.")], Shorter(), steps=3, candidates=2)
    assert len(ranking["candidates"]) > 4
    refined = [item["values"]["prompt"]["instruction"] for item in ranking["candidates"][2:]]
    assert any(text.startswith("Say nothing else.") for text in refined)
    assert len({item["label"] for item in ranking["candidates"]}) == len(ranking["candidates"])
    assert len({item["local_n"] for item in ranking["candidates"]}) == 1, "all means over the same inputs"


def test_per_input_choice_and_the_iteration_after_it(optimize: Optimize) -> None:
    _, ranking = optimize("lookup", "k", [2], Longer(), selection_mode="per_input")
    policy = ranking["values"]["k"]
    assert policy == {"per_input": [1, 2], "lrf": LRF} and ranking["mode"] == "per_input"
    context, again = optimize("lookup", "k", [1, 2], Longer(), selection_mode="per_input", now=policy)
    assert again["values"] is None, "a policy over the same values is no new challenger"
    context.system.check_configuration(context.system.configuration.replace("lookup", ranking["values"]))
