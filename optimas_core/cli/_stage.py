"""`optimas stage`: one stage alone, from a request in JSON."""

from __future__ import annotations

import asyncio
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from optimas_core.errors import SpecError
from optimas_core.stages import (
    AdaptRequest,
    OptimizeRequest,
    PreferenceRequest,
    TestRequest,
    TrainRequest,
    ValidateRequest,
    adapt_lrf,
    generate_preferences,
    load_project,
    local_optimize,
    open_run,
    sealed_test,
    train_lrf,
    validate_accept,
)

_STAGES: dict[str, tuple[Any, Any]] = {
    "generate-preferences": (generate_preferences, PreferenceRequest),
    "train-lrf": (train_lrf, TrainRequest),
    "adapt-lrf": (adapt_lrf, AdaptRequest),
    "local-optimize": (local_optimize, OptimizeRequest),
    "validate-accept": (validate_accept, ValidateRequest),
    "sealed-test": (sealed_test, TestRequest),
}


def run_stage(name: str, run_yaml: Path, request: Path, workspace: str | None) -> None:
    """Run the stage and print the name of the artifact it committed.

    Raises:
        SpecError: no such stage, or a request that does not fit it.
    """
    if name not in _STAGES:
        raise SpecError(f"there is no stage {name!r}.", remedy=f"Stages: {', '.join(_STAGES)}.")
    stage, kind = _STAGES[name]
    built = _request(kind, request)
    context = open_run(load_project(run_yaml, workspace=workspace))
    try:
        print(asyncio.run(stage(context, built)))
    finally:
        context.budget.flush()


def _request(kind: Any, path: Path) -> Any:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SpecError(f"{path} cannot be read as JSON: {error}.", remedy="Write the request as one JSON object.") from None
    names = [field.name for field in fields(kind)]
    unknown = sorted(set(data) - set(names)) if isinstance(data, dict) else ["not an object"]
    if unknown:
        raise SpecError(f"{path}: unknown key {unknown[0]!r}.", remedy=f"Keys of this stage: {', '.join(names)}.")
    try:
        return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in data.items()})
    except TypeError as error:
        raise SpecError(f"{path}: {error}.", remedy=f"Keys of this stage: {', '.join(names)}.") from None
