"""The state machine: transitions, what an iteration may change, alpha accounting, JSON round trip."""

import json
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimas_core.controller import (
    VALID_TRANSITIONS,
    IterationPlan,
    IterationResult,
    Phase,
    RunState,
    after_iteration,
    after_warm_up,
    moved,
)
from optimas_core.controller import stop_reason as reason_to_stop
from optimas_core.errors import ArtifactCorrupt
from optimas_core.spec import ScheduleSettings

PHASES = get_args(Phase)


def plan(**changes: Any) -> IterationPlan:
    base = IterationPlan(1, 1, "answerer", "prompt", "v0", "r0", (), (), ("e1",), ("e2",), 0.01, 0)
    return replace(base, **changes)


def result(verdict: Any = "reject", **changes: Any) -> IterationResult:
    base = IterationResult("v0", "r1", "m1", verdict, "why", 0.01, None, 0.5, "p1", "k1", "w1", True)
    return replace(base, **changes)


@given(st.sampled_from(PHASES), st.sampled_from(PHASES))
def test_only_the_table_s_transitions_exist(before: Any, after: Any) -> None:
    state = RunState(phase=before, index=4, record={"old": 1})
    if after in VALID_TRANSITIONS[before]:
        assert moved(state, after) == replace(state, phase=after, index=5, record={})
    else:
        with pytest.raises(ValueError, match=f"from {before} to {after}"):
            moved(state, after)


@given(st.lists(st.sampled_from(PHASES), max_size=12))
def test_every_run_is_warm_before_it_iterates_and_ends_once(wanted: list[Any]) -> None:
    state, path = RunState(), ["created"]
    for phase in wanted:
        try:
            state = moved(state, phase)
        except ValueError:
            continue
        path.append(phase)
    assert state.index == len(path) - 1
    assert path.count("finished") <= 1
    if path != ["created", "finished"]:  # a scheduled run for which nothing had moved
        assert path[:2] in (["created"], ["created", "warm"])
        assert "finished" not in path or path[-2:] == ["testing", "finished"]
    assert set(VALID_TRANSITIONS) == set(PHASES) and not VALID_TRANSITIONS["finished"]


def test_a_rejected_challenger_restores_v_exactly_and_keeps_the_adapted_reward() -> None:
    state = RunState(phase="warm", configuration="v0", lrf="r0", preferences={"answerer": ("m0",)})
    after = after_iteration(state, plan(), result(), {"x": 1})
    assert (after.configuration, after.lrf, after.accepted, after.without_acceptance) == ("v0", "r1", 0, 1)
    assert after.preferences == {"answerer": ("m1", "m0")} and after.gains == {"answerer": (0.0,)}
    assert after.charged == 0.01 and after.validation_mean == 0.5 and after.record == {"x": 1}
    for verdict in ("reject", "indecisive", "kept"):
        with pytest.raises(ValueError, match="must leave the configuration"):
            after_iteration(state, plan(), result(verdict, configuration="v1"), {})


def test_an_acceptance_gives_its_level_back_and_resets_patience() -> None:
    state = RunState(phase="iterating", configuration="v0", without_acceptance=3, charged=0.02, gains={"answerer": (0.0,)})
    after = after_iteration(state, plan(), result("accept", configuration="v1", difference=0.2), {})
    assert (after.configuration, after.accepted, after.without_acceptance, after.charged) == ("v1", 1, 0, 0.02)
    assert after.gains == {"answerer": (0.0, 0.2)}


def test_an_iteration_that_tests_nothing_keeps_the_last_validation_mean() -> None:
    state = RunState(phase="iterating", configuration="v0", validation_mean=0.7)
    kept = after_iteration(state, plan(), result("kept", alpha_spent=0.0, validation_mean=None, validation=None), {})
    assert kept.validation_mean == 0.7 and kept.charged == 0.0


def test_what_is_remembered_is_bounded() -> None:
    state = RunState(phase="warm", configuration="v0")
    for number in range(20):
        state = after_iteration(state, plan(iteration=number), result(mini_batch=f"m{number}"), {})
    assert state.preferences["answerer"] == tuple(f"m{number}" for number in range(19, 11, -1))
    assert len(state.gains["answerer"]) == 8


@given(
    st.builds(
        RunState,
        phase=st.sampled_from(PHASES),
        preferences=st.dictionaries(st.text(max_size=3), st.lists(st.text(max_size=3), max_size=3).map(tuple), max_size=2),
        gains=st.dictionaries(st.text(max_size=3), st.lists(st.floats(-1, 1), max_size=3).map(tuple), max_size=2),
        charged=st.floats(0, 1),
        lrf=st.none() | st.text(max_size=4),
    )
)
def test_a_state_survives_json(state: RunState) -> None:
    assert RunState.from_json(json.loads(json.dumps(state.to_json()))) == state


@pytest.mark.parametrize("data", [{}, {"preferences": {}, "gains": {}, "unknown": 1}, {"preferences": [], "gains": {}}])
def test_a_foreign_state_is_corrupt(data: dict[str, Any]) -> None:
    with pytest.raises(ArtifactCorrupt):
        RunState.from_json(data)


def test_warm_up_begins_each_component_s_memory() -> None:
    state = after_warm_up(RunState(configuration="v0"), {"a": "m1", "b": "m2"}, "r0", {})
    assert (state.phase, state.preferences, state.lrf) == ("warm", {"a": ("m1",), "b": ("m2",)}, "r0")


def test_why_a_loop_ends() -> None:
    schedule = ScheduleSettings(iterations=5, patience=2, target=0.8)
    assert reason_to_stop(RunState(iteration=4, without_acceptance=1, validation_mean=0.79), schedule) == ""
    assert "all 5 iterations" in reason_to_stop(RunState(iteration=5), schedule)
    assert "patience" in reason_to_stop(RunState(iteration=2, without_acceptance=2), schedule)
    assert "target 0.8" in reason_to_stop(RunState(iteration=1, validation_mean=0.8), schedule)
    assert reason_to_stop(RunState(iteration=4, without_acceptance=4, validation_mean=1.0), ScheduleSettings(iterations=5)) == ""
