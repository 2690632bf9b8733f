"""What a scheduled run is compared with: which run, and which of its scores."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from optimas_core.artifacts import Lease, Workspace
from optimas_core.canonical import digest
from optimas_core.controller import RunState, drift_request, find_baseline, note_drift
from optimas_core.errors import ArtifactCorrupt
from optimas_core.spec import WarmStart
from optimas_core.stages import StageContext, load_project, open_run

SYSTEM = "colours"
OLD, NEW = "a" * 32, "b" * 32


def result(verdict: str, configuration: str, validation: str | None) -> dict[str, Any]:
    return {"verdict": verdict, "configuration": configuration, "validation": validation}


def finished(
    workspace: Workspace, name: str, created_at: str, *, system: str = SYSTEM, test: str | None = "t", source: str | None = "x.jsonl"
) -> None:
    """A run that accepted NEW in its first iteration."""
    run = workspace.run(name)
    run.freeze_spec({"system": {"name": system}, "created_at": created_at, "settings": {"data": {"source": source}}})
    states = [
        RunState(configuration=OLD),
        RunState(1, "warm", 0, OLD, "r0", {"lookup": ("p0",)}),
        RunState(2, "iterating", 1, NEW, "r1", record={"plan": {"configuration": OLD}, "result": result("accept", NEW, "v1")}),
        RunState(3, "finished", 1, NEW, "r2", {"lookup": ("p1", "p0")}, record={} if test is None else {"test": test}),
    ]
    for state in states:
        run.append_state(state.index, state.to_json())


def checked(workspace: Workspace, name: str, created_at: str, *, moved: bool, of: tuple[str, str] = ("first", NEW)) -> str:
    """A scheduled run that began with a check; returns the artifact's name."""
    run = workspace.run(name)
    run.freeze_spec({"system": {"name": SYSTEM}, "created_at": created_at})
    drift = digest(name)
    decision = {"moved": moved, "reason": "", "run": of[0], "configuration": of[1], "lrf": None, "now": {"mean": 0.5, "n": 9}}
    decision |= {"score": None, "alignment": {}, "preferences": {}}
    files = {"decision.json": json.dumps(decision).encode()}
    run.commit_artifact("validations", drift, files, inputs={}, producer="p", created_at=created_at)
    run.append_state(0, RunState(configuration=NEW, record={"drift": drift}).to_json())
    return drift


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "workspace")


def test_the_latest_run_that_read_its_sealed_test_unless_something_was_promoted(workspace: Workspace) -> None:
    assert find_baseline(workspace, SYSTEM) is None
    finished(workspace, "first", "2026-01-01T00:00:00+00:00")
    finished(workspace, "second", "2026-01-08T00:00:00+00:00")
    finished(workspace, "another-system", "2026-01-09T00:00:00+00:00", system="shapes")
    finished(workspace, "nothing-moved", "2026-01-15T00:00:00+00:00", test=None)
    assert find_baseline(workspace, SYSTEM) == WarmStart(run="second", configuration=NEW, lrf="r2")
    workspace.promoted(SYSTEM).promote(OLD, run_id="first", at="2026-01-20T00:00:00+00:00")
    assert find_baseline(workspace, SYSTEM) == WarmStart(run="first", configuration=OLD, lrf="r2")


def test_the_latest_run_that_ended_with_the_promoted_configuration_counts(workspace: Workspace) -> None:
    finished(workspace, "first", "2026-01-01T00:00:00+00:00")
    finished(workspace, "second", "2026-01-08T00:00:00+00:00")
    workspace.promoted(SYSTEM).promote(NEW, run_id="first", at="2026-01-05T00:00:00+00:00")
    assert find_baseline(workspace, SYSTEM) == WarmStart(run="second", configuration=NEW, lrf="r2"), "it found nothing better since"


def test_what_is_compared_with_is_the_first_check_that_found_nothing_and_the_sealed_test(workspace: Workspace) -> None:
    finished(workspace, "first", "2026-01-01T00:00:00+00:00")
    new = WarmStart(run="first", configuration=NEW, lrf="r2")
    request = drift_request(workspace, new, SYSTEM, "now")
    assert (request.run, request.configuration, request.lrf) == ("first", NEW, "r2")
    assert (request.reference_run, request.reference, request.test) == (None, None, "t")
    checked(workspace, "moved", "2026-01-08T00:00:00+00:00", moved=True)
    checked(workspace, "of-another", "2026-01-09T00:00:00+00:00", moved=False, of=("first", OLD))
    counts = checked(workspace, "z-first", "2026-01-15T00:00:00+00:00", moved=False)
    checked(workspace, "a-second", "2026-01-22T00:00:00+00:00", moved=False)
    request = drift_request(workspace, new, SYSTEM, "now")
    assert (request.reference_run, request.reference) == ("z-first", counts)
    assert drift_request(workspace, new, SYSTEM, "z-first").reference_run == "a-second", "a check is not compared with itself"
    assert drift_request(workspace, WarmStart(run="first", configuration=OLD), SYSTEM, "now").test is None, "it was not the after arm"


def test_a_sealed_test_of_another_source_than_validation_is_not_compared_with(workspace: Workspace) -> None:
    finished(workspace, "first", "2026-01-01T00:00:00+00:00", source=None)
    assert drift_request(workspace, WarmStart(run="first", configuration=NEW), SYSTEM, "now").test is None


def test_a_damaged_run_of_the_system_is_left_out(workspace: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    finished(workspace, "first", "2026-01-01T00:00:00+00:00")
    finished(workspace, "second", "2026-01-08T00:00:00+00:00")
    workspace.store.put("runs/second/state/000003.json", b"{}")
    assert find_baseline(workspace, SYSTEM) == WarmStart(run="first", configuration=NEW, lrf="r2")
    assert "second is left out" in caplog.text


def test_a_promoted_run_that_is_gone_is_said_so(workspace: Workspace) -> None:
    with pytest.raises(ArtifactCorrupt, match="has no states"):
        drift_request(workspace, WarmStart(run="gone", configuration=NEW, lrf=None), SYSTEM, "now")


@pytest.fixture
def held(scripted_project: Callable[..., Path]) -> Iterator[tuple[StageContext, Lease]]:
    context = open_run(load_project(scripted_project()))
    lease = Lease(context.run)
    lease.acquire()
    yield context, lease
    lease.release()


@pytest.mark.parametrize("moved", [True, False])
def test_the_check_is_the_runs_first_state_and_its_last_where_nothing_moved(held: tuple[StageContext, Lease], moved: bool) -> None:
    context, lease = held
    decision = {"moved": moved, "reason": "because"}
    last = note_drift(context, lease, "d", decision)
    assert note_drift(context, lease, "d", decision) == last, "noted again it changes nothing"
    states = [RunState.from_json(stored.data) for stored in context.run.states()]
    assert states[0].record == {"drift": "d"} and states[0].configuration == context.system.configuration.digest
    assert [state.phase for state in states] == (["created"] if moved else ["created", "finished"])
    assert states[-1].stop_reason == ("" if moved else "because")


def test_a_check_that_was_killed_between_its_two_states_ends_the_run_when_it_is_noted_again(held: tuple[StageContext, Lease]) -> None:
    context, lease = held
    first = replace(RunState(), configuration=context.system.configuration.digest, record={"drift": "d"})
    context.run.append_state(0, first.to_json(), epoch=lease.epoch)
    assert note_drift(context, lease, "d", {"moved": False, "reason": "because"}).phase == "finished"
