"""Stages that need no Local Reward Function, on the scripted system: proposals, the race, validation, the sealed test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from optimas_core.artifacts import read_table
from optimas_core.errors import ArtifactCorrupt, DataError
from optimas_core.stages import (
    OptimizeRequest,
    PreferenceRequest,
    ProposeRequest,
    StageContext,
    TestRequest,
    ValidateRequest,
    generate_preferences,
    load_project,
    local_optimize,
    make_proposals,
    open_run,
    read_decision,
    read_pairs,
    read_proposals,
    read_ranking,
    sealed_test,
    validate_accept,
)
from optimas_core.stages._race import race

Open = Callable[..., StageContext]


@pytest.fixture
def opened(scripted_project: Callable[..., Path]) -> Open:
    def begin(folder: str = "project", **sections: Any) -> StageContext:
        return open_run(load_project(scripted_project(folder, **sections)))

    return begin


def run(work: Any) -> Any:
    return asyncio.run(work)


def start_of(context: StageContext) -> str:
    return context.run.put_configuration(context.system.configuration.to_json())


def train(context: StageContext, count: int) -> tuple[str, ...]:
    return tuple(example.id for example in context.split.train[:count])


def calls(context: StageContext) -> int:
    return int(context.system.components["answerer"].clients[0].calls)


def challenger(context: StageContext, **knobs: Any) -> str:
    prompt = {**context.system.configuration.of("answerer")["prompt"], **knobs}
    return context.run.put_configuration(context.system.configuration.replace("answerer", {"prompt": prompt}).to_json())


def test_proposals_come_from_training_data_only_and_hold_no_expected_answer(opened: Open) -> None:
    context = opened()
    first = run(generate_preferences(context, PreferenceRequest(0, ("answerer",), start_of(context), train(context, 12))))
    name = run(make_proposals(context, ProposeRequest(1, "answerer", "prompt", start_of(context), (first,))))
    found = read_proposals(context, name)
    assert {item.proposer for item in found} == {"demonstrations", "edits", "opro"}
    shown = [shot for item in found for shot in item.values["prompt"]["demonstrations"]]
    questions = {example.fields["question"] for example in context.split.train}
    assert shown and {shot["inputs"]["question"] for shot in shown} <= questions
    outputs = {json.loads(row["output_json"])["answer"] for row in rows_of(context, first)}
    assert {shot["output"] for shot in shown} <= outputs
    assert found[0].values["prompt"] != context.system.configuration.of("answerer")["prompt"]


def rows_of(context: StageContext, name: str) -> list[dict[str, Any]]:
    artifact = context.required("preferences", name)
    return read_table("rollouts", artifact.read("rollouts.parquet"), file="rollouts.parquet")


def test_a_committed_stage_costs_nothing(opened: Open) -> None:
    context = opened()
    request = PreferenceRequest(0, ("answerer",), start_of(context), train(context, 6))
    name = run(generate_preferences(context, request))
    before = calls(context)
    assert before > 0 and run(generate_preferences(context, request)) == name and calls(context) == before
    assert run(generate_preferences(context, replace(request, iteration=1))) != name
    assert calls(context) < 2 * before, "what the calls gave is kept"


def test_pairs_are_of_the_asked_component_and_ordered_by_reward(opened: Open) -> None:
    context = opened()
    name = run(generate_preferences(context, PreferenceRequest(0, ("lookup", "answerer"), start_of(context), train(context, 12))))
    artifact = context.required("preferences", name)
    both = {pair.component for pair in read_pairs(artifact)}
    assert both == {"lookup", "answerer"} and {pair.component for pair in read_pairs(artifact, "lookup")} == {"lookup"}
    rows = read_table("preferences", artifact.read("pairs.parquet"), file="pairs.parquet")
    assert rows and all(row["reward_chosen"] > row["reward_rejected"] for row in rows)
    assert all(pair.chosen != pair.rejected for pair in read_pairs(artifact))


def optimize(context: StageContext, component: str, knob: str, **settings: Any) -> dict[str, Any]:
    start = start_of(context)
    first = run(generate_preferences(context, PreferenceRequest(0, (component,), start, train(context, 8))))
    proposals = run(make_proposals(context, ProposeRequest(1, component, knob, start, (first,))))
    proposed = proposals if context.settings.optimizers.order == "proposals_first" else None
    batch = run(generate_preferences(context, PreferenceRequest(1, (component,), start, train(context, 6), proposed)))
    request = OptimizeRequest(1, component, knob, start, None, batch, proposals, (first,), train(context, 20))
    return read_ranking(context, run(local_optimize(context, request)))


@pytest.mark.parametrize("order", ["proposals_first", "incumbent_only"])
@pytest.mark.parametrize(("component", "knob"), [("answerer", "prompt"), ("lookup", "k")])
def test_without_a_reward_function_candidates_race_on_measured_rollouts(opened: Open, component: str, knob: str, order: str) -> None:
    context = opened(optimizers={"candidates": 2, "order": order})
    ranking = optimize(context, component, knob)
    assert ranking["steered_by"] == "measured" and "no Local Reward Function" in ranking["steered_reason"]
    assert ranking["candidates"][0]["label"] == "incumbent" and sum(item["chosen"] for item in ranking["candidates"]) == 1
    assert ranking["values"] is not None, "both components have a better value than the one they start with"
    if knob == "k":
        assert ranking["values"] == {"k": 2} and ranking["mode"] == "global"
    else:
        prompt = ranking["values"]["prompt"]
        assert prompt["format"] == "completion" or "nothing else" in prompt["instruction"]
    assert "against the incumbent's" in ranking["reason"]


def measured_race(context: StageContext, changes: list[dict[str, Any]], measured: list[dict[str, float]] | None = None) -> int:
    measured = measured or [{} for _ in changes]
    return int(
        run(
            race(
                context, component="lookup", configuration=context.system.configuration, changes=changes, measured=measured,
                examples=train(context, 20), iteration=1,
            )
        )
    )  # fmt: skip


def test_the_race_finds_the_better_value_with_nothing_known_before(opened: Open) -> None:
    assert measured_race(opened(), [{}, {"k": 2}, {"k": 1}]) == 1
    assert measured_race(opened("reverse"), [{"k": 2}, {"k": 1}]) == 0


def test_a_candidate_that_always_fails_harms_only_itself(opened: Open) -> None:
    """k = "x" cannot be used to cut a list: every execution is missing."""
    context = opened()
    assert measured_race(context, [{}, {"k": "x"}, {"k": "y"}, {"k": "z"}, {"k": 2}]) == 4
    lucky = [{f"e{number}": 0.5 for number in range(40)}, {"e1": 1.0}, {f"e{number}": 0.4 for number in range(40)}]
    assert measured_race(context, [{}, {"k": "x"}, {"k": 1}], lucky) == 0, "a lucky few do not win"


def test_validation_is_paired_and_a_function_of_the_scores(opened: Open) -> None:
    context = opened()
    better, start = challenger(context, format="completion"), start_of(context)
    name = run(validate_accept(context, ValidateRequest(1, start, better, 0.05, 0)))
    decision = read_decision(context, name)
    assert decision["kind"] == "accept" and decision["difference"] > 0.3
    table = context.required("validations", name).read("validations.parquet")
    rows = read_table("validations", table, file="validations.parquet")
    arms = {arm: [row["example_id"] for row in rows if row["arm"] == arm] for arm in ("incumbent", "challenger")}
    assert arms["incumbent"] == arms["challenger"], "the same items"
    assert set(arms["incumbent"]) <= {example.id for example in context.split.validation}
    worse = read_decision(context, run(validate_accept(context, ValidateRequest(2, better, start, 0.05, 1))))
    assert worse["kind"] == "reject"
    null = read_decision(context, run(validate_accept(context, ValidateRequest(3, start, start, 0.05, 0))))
    assert null["kind"] == "reject" and null["difference"] == 0.0


def test_after_an_acceptance_a_stochastic_incumbent_is_measured_anew(opened: Open) -> None:
    context = opened()
    start, other = start_of(context), challenger(context, instruction="Go.")
    run(validate_accept(context, ValidateRequest(1, start, other, 0.01, 0)))
    before = calls(context)
    run(validate_accept(context, ValidateRequest(2, start, other, 0.01, 0)))
    assert calls(context) == before, "same seeds in every iteration"
    run(validate_accept(context, ValidateRequest(3, start, other, 0.01, 1)))
    assert calls(context) > before


def test_the_sealed_test_reads_both_arms_on_the_test_split(opened: Open) -> None:
    context = opened()
    summary = read_decision(context, run(sealed_test(context, TestRequest(start_of(context), challenger(context, format="completion")))))
    assert summary["difference"]["n"] == 16 and summary["difference"]["ci"][0] > 0
    assert summary["incumbent"]["ci"][0] <= summary["incumbent"]["mean"] <= summary["incumbent"]["ci"][1]
    same = read_decision(context, run(sealed_test(context, TestRequest(start_of(context), start_of(context)))))
    assert same["difference"]["mean"] == 0.0 and same["incumbent"] == same["challenger"]


def test_what_a_request_names_must_exist(opened: Open) -> None:
    context = opened()
    with pytest.raises(ArtifactCorrupt, match="not committed"):
        run(make_proposals(context, ProposeRequest(1, "answerer", "prompt", start_of(context), ("0" * 64,))))
    with pytest.raises(ArtifactCorrupt, match="configuration"):
        run(generate_preferences(context, PreferenceRequest(0, ("answerer",), "0" * 64, train(context, 2))))
    with pytest.raises(DataError, match="no example 'nobody'"):
        run(generate_preferences(context, PreferenceRequest(0, ("answerer",), start_of(context), ("nobody",))))


def test_an_edit_longer_than_the_space_allows_is_not_proposed(opened: Open) -> None:
    context = opened(optimizers={"candidates": 9, "proposers": ["edits"]})
    space = context.system.components["answerer"].space["prompt"]
    object.__setattr__(space, "max_instruction_chars", 45)
    name = run(make_proposals(context, ProposeRequest(1, "answerer", "prompt", start_of(context), ())))
    found = [item.values["prompt"]["instruction"] for item in read_proposals(context, name)]
    assert found and all(len(text) <= 45 for text in found)
