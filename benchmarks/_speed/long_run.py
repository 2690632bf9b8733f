"""A run of many iterations in a workspace, made in minutes: two real iterations, then their results again under later numbers.

States go through the controller's own functions and the workspace's `append_state`, spending through `Budget` with a ledger
record for each committed artifact. What later iterations refer to are the artifacts of the two real ones.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import yaml

from optimas_core.artifacts import Lease, Store, Workspace
from optimas_core.controller import Controller, IterationPlan, IterationResult, RunState, after_iteration, plan_iteration
from optimas_core.launchers import InProcessLauncher
from optimas_core.rollouts import Place
from optimas_core.stages import StageContext, load_project, open_run

_SYSTEM = Path(__file__).parent / "scripted" / "system.py"
_SPEC = {
    "system": "system:build",
    "data": {"source": "examples.jsonl", "split": {"train": 24, "validation": 30, "test": 16, "seed": 0}},
    "seed": 1,
    "preferences": {"examples": 8, "candidates": 3, "rollouts": 2},
    "lrf": {"rung": "frozen"},
    "optimizers": {"candidates": 2, "search_inputs": 8, "fresh_inputs": 6},
    "acceptance": {"kind": "strict", "items": 10},
}
_STAGES = ("propose", "generate-preferences", "adapt-lrf", "local-optimize", "validate-accept")


def write_project(directory: Path, iterations: int) -> Path:
    """A project of its own below `directory`; returns run.yaml. Its workspace is the directory `workspace` beside it."""
    directory.mkdir(parents=True)
    shutil.copy(_SYSTEM, directory / "system.py")
    rows = [{"id": f"i{n}", "question": f"What is the colour of item {n}?", "answer": f"green{n}"} for n in range(70)]
    (directory / "examples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = _SPEC | {"workspace": "./workspace", "schedule": {"iterations": iterations, "selection": {"kind": "round_robin"}}}
    (directory / "run.yaml").write_text(yaml.safe_dump(spec))
    return directory / "run.yaml"


def build(run_yaml: Path, iterations: int) -> str:
    """Make the run up to the last iteration, without the sealed test; returns its id."""
    project = load_project(run_yaml)
    context = open_run(project)
    lease = Lease(context.run)
    lease.acquire()
    launcher = InProcessLauncher(context)
    controller = Controller(context, launcher, lease)
    try:
        state = controller.current()
        for _ in range(3):
            state = controller.step(state)
        done = [(plan, result) for plan, result in _iterations(context)]
        for number in range(state.iteration, iterations):
            state = _repeated(context, state, *done[number % len(done)])
            context.run.append_state(state.index, state.to_json(), epoch=lease.epoch)
            lease.check()
    finally:
        launcher.close()
        lease.release()
    return project.run_id


def copy(source: Store, target: Store) -> int:
    """Every key of a workspace to another store; returns how many."""

    def one(key: str) -> None:
        blob = source.get(key)
        assert blob is not None
        target.put(key, blob.data)

    with ThreadPoolExecutor(16) as threads:
        return sum(1 for _ in threads.map(one, list(source.list())))


def copy_workspace(source: str, target: str) -> int:
    return copy(Workspace.open(source).store, Workspace.open(target).store)


def _iterations(context: StageContext) -> Iterator[tuple[IterationPlan, IterationResult]]:
    for stored in context.run.states():
        record = RunState.from_json(stored.data).record
        if "result" in record:
            yield IterationPlan(**record["plan"]), IterationResult(**record["result"])


def _repeated(context: StageContext, state: RunState, plan: IterationPlan, result: IterationResult) -> RunState:
    """The state after one more iteration that came to nothing, with what it spent in the ledger."""
    planned = plan_iteration(state, context.settings, context.system, context.split.train)
    planned = replace(planned, component=plan.component, knob=plan.knob)
    for stage in _STAGES:
        context.budget.record_compute(Place(stage, planned.iteration, plan.component), 0.01)
        context.budget.flush()
    verdict: Literal["reject", "kept"] = "reject" if result.validation else "kept"
    again = replace(result, configuration=state.configuration, lrf=state.lrf, verdict=verdict)
    return after_iteration(state, planned, again, {"plan": asdict(planned), "result": asdict(again)})
