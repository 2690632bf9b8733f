"""`optimas stage`: one stage alone, from a request in JSON."""

from __future__ import annotations

import asyncio
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from optimas_core._memory import few_arenas
from optimas_core.artifacts import Lease
from optimas_core.canonical import parse_json
from optimas_core.cli._signals import Stopping, stop_on_sigterm
from optimas_core.errors import SpecError
from optimas_core.stages import (
    AdaptRequest,
    DriftRequest,
    OptimizeRequest,
    PreferenceRequest,
    ProposeRequest,
    StageContext,
    TestRequest,
    TrainRequest,
    ValidateRequest,
    adapt_lrf,
    drift_check,
    generate_preferences,
    load_project,
    local_optimize,
    make_proposals,
    open_run,
    sealed_test,
    train_lrf,
    validate_accept,
)

_KINDS: dict[Any, str] = {
    int: "whole number",
    float: "number",
    str: "text",
    str | None: "text or null",
    tuple[str, ...]: "list of texts",
}
_STAGES: dict[str, tuple[Any, Any]] = {
    "propose": (make_proposals, ProposeRequest),
    "generate-preferences": (generate_preferences, PreferenceRequest),
    "train-lrf": (train_lrf, TrainRequest),
    "adapt-lrf": (adapt_lrf, AdaptRequest),
    "local-optimize": (local_optimize, OptimizeRequest),
    "validate-accept": (validate_accept, ValidateRequest),
    "sealed-test": (sealed_test, TestRequest),
    "drift-check": (drift_check, DriftRequest),
}


def run_stage(name: str, run_yaml: Path, request: Path, workspace: str | None, run_name: str | None, seed: int | None) -> None:
    """Run the stage and print the name of the artifact it committed.

    Raises:
        SpecError: no such stage, or a request that does not fit it.
    """
    if name not in _STAGES:
        raise SpecError(f"there is no stage {name!r}.", remedy=f"Stages: {', '.join(_STAGES)}.")
    few_arenas()
    stage, kind = _STAGES[name]
    built = _request(kind, request)
    project = load_project(run_yaml, name=run_name, seed=seed, workspace=workspace)
    with stop_on_sigterm() as stopping:
        lease = Lease(open_run(project).run)
        lease.acquire()
        with lease.keep():
            _execute(name, stage, built, open_run(project), lease, stopping, request)


def _execute(name: str, stage: Any, built: Any, context: StageContext, lease: Lease, stopping: Stopping, request: Path) -> None:
    """Run one stage while this process holds the run, so that no other commits to it."""

    def before_call() -> None:
        stopping.check()
        lease.check()

    context.before_commit = lease.check
    context.engine.before_call = before_call
    stored = context.run.latest_state()
    if name == "sealed-test" and (stored is None or stored.data["phase"] not in ("testing", "finished")):
        raise SpecError("the run still optimizes, and its sealed test is read once, at the end.", remedy="Finish the run first.")
    named = getattr(built, "component", None)
    for component in (named,) if named is not None else getattr(built, "components", ()):
        if component not in context.system.components:
            raise SpecError(
                f"{request}: the system has no component {component!r}.", remedy=f"Components: {', '.join(context.system.components)}."
            )
        knob = getattr(built, "knob", None)
        if knob is not None and knob not in context.system.components[component].space:
            raise SpecError(f"{request}: {component!r} has no optimizable knob {knob!r}.", remedy="Name one of its space.")
    try:
        print(asyncio.run(stage(context, built)))
    except ValueError as error:  # a name in the request that cannot be an artifact's
        if "not a digest" not in str(error):
            raise
        raise SpecError(f"{request}: {error}.", remedy="Use the names that earlier stages printed.") from None
    finally:
        context.budget.flush()


def _request(kind: Any, path: Path) -> Any:
    try:
        data = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SpecError(f"{path} cannot be read as JSON: {error}.", remedy="Write the request as one JSON object.") from None
    names = [field.name for field in fields(kind)]
    unknown = sorted(set(data) - set(names)) if isinstance(data, dict) else ["not an object"]
    if unknown:
        raise SpecError(f"{path}: unknown key {unknown[0]!r}.", remedy=f"Keys of this stage: {', '.join(names)}.")
    hints = get_type_hints(kind)
    for key, value in data.items():
        if not _fits(value, hints[key]):
            raise SpecError(f"{path}: {key} = {str(value)[:80]!r} is no {_KINDS[hints[key]]}.", remedy="Correct the request.")
    try:
        return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in data.items()})
    except TypeError as error:
        raise SpecError(f"{path}: {error}.", remedy=f"Keys of this stage: {', '.join(names)}.") from None


def _fits(value: Any, kind: Any) -> bool:
    if kind == tuple[str, ...]:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if isinstance(value, bool):
        return False
    return isinstance(value, int | float if kind is float else kind)
