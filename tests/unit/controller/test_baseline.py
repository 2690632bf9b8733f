"""What a scheduled run is compared with: which run, and which of its scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from optimas_core.artifacts import Lease, Workspace
from optimas_core.controller import RunState, drift_request, find_baseline, note_drift
from optimas_core.errors import ArtifactCorrupt
from optimas_core.spec import WarmStart
from optimas_core.stages import StageContext, load_project, open_run

SYSTEM = "colours"
OLD, NEW = "a" * 32, "b" * 32


def result(verdict: str, configuration: str, validation: str | None) -> dict[str, Any]:
    return {"verdict": verdict, "configuration": configuration, "validation": validation}


def finished(workspace: Workspace, name: str, created_at: str, *, system: str = SYSTEM, test: str | None = "t") -> None:
    """A run that accepted NEW in its first iteration and measured it again, as the incumbent, in its third."""
    run = workspace.run(name)
    run.freeze_spec({"system": {"name": system}, "created_at": created_at})
    states = [
        RunState(configuration=OLD),
        RunState(1, "warm", 0, OLD, "r0", {"lookup": ("p0",)}),
        RunState(2, "iterating", 1, NEW, "r1", record={"plan": {"configuration": OLD}, "result": result("accept", NEW, "v1")}),
        RunState(3, "iterating", 2, NEW, "r1", record={"plan": {"configuration": NEW}, "result": result("kept", NEW, None)}),
        RunState(4, "iterating", 3, NEW, "r2", record={"plan": {"configuration": NEW}, "result": result("reject", NEW, "v3")}),
        RunState(5, "finished", 3, NEW, "r2", {"lookup": ("p1", "p0")}, record={} if test is None else {"test": test}),
    ]
    for state in states:
        run.append_state(state.index, state.to_json())


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


def test_scores_by_which_a_configuration_was_chosen_are_left_out(workspace: Workspace) -> None:
    finished(workspace, "first", "2026-01-01T00:00:00+00:00")
    new = drift_request(workspace, WarmStart(run="first", configuration=NEW, lrf="r2"))
    assert (new.incumbent, new.challenger) == (("v3",), ("t",)), "v1 accepted it: its scores were selected for being high"
    assert (new.lrf, new.pairs) == ("r2", ("p1", "p0"))
    old = drift_request(workspace, WarmStart(run="first", configuration=OLD, lrf="r2"))
    assert (old.incumbent, old.challenger) == (("v1", "t"), ()), "the start was measured as the incumbent, in the test too"


def test_a_promoted_run_that_is_gone_is_said_so(workspace: Workspace) -> None:
    with pytest.raises(ArtifactCorrupt, match="has no states"):
        drift_request(workspace, WarmStart(run="gone", configuration=NEW, lrf=None))


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
