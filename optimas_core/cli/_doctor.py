"""`optimas doctor`: everything a run needs, checked one by one; each failure says how to mend it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from optimas_core.artifacts import Workspace, probe
from optimas_core.errors import OptimasError
from optimas_core.stages import Project, check_backbone, check_models, load_project


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    ok: bool
    detail: str


def examine(run_yaml: Path, workspace: str | None, json_output: bool) -> int:
    """Print one line a check; returns the exit code: 0 if all are well, else 2."""
    findings: list[Finding] = []
    project: Project | None = None

    def attempt(name: str, work: Callable[[], Any], tell: Callable[[Any], str]) -> Any:
        try:
            value = work()
        except OptimasError as error:
            findings.append(Finding(name, False, str(error)))
            return None
        findings.append(Finding(name, True, tell(value)))
        return value

    project = attempt("spec, system and data", lambda: load_project(run_yaml, workspace=workspace), _describe)
    if project is not None:
        found = project
        attempt("models", lambda: check_models(found.system, also=found.proposing), lambda _: _models(found))
        attempt(
            "workspace",
            lambda: probe(Workspace.open(found.workspace_url).store),
            lambda _: f"{found.workspace_url}: conditional writes work",
        )
        attempt("reward backbone", lambda: check_backbone(found.settings), str)
        attempt("one execution", lambda: asyncio.run(_execute_once(found)), str)
    if json_output:
        print(json.dumps([asdict(item) for item in findings]))
    else:
        for item in findings:
            print(f"{'ok  ' if item.ok else 'FAIL'}  {item.check}: {item.detail}")
    return 0 if all(item.ok for item in findings) else 2


def _describe(project: Project) -> str:
    split = project.split
    sizes = f"{len(split.train)} train, {len(split.validation)} validation, {len(split.test)} test examples"
    return f"{len(project.system.components)} components, {', '.join(project.system.optimizable)} optimizable; {sizes}"


def _models(project: Project) -> str:
    own = [client for item in project.system.components.values() for client in item.clients]
    clients = {client.id: client for client in (*own, *project.proposing)}
    if not clients:
        return "the system uses none"
    return "; ".join(f"{name} answers, price {'known' if client.price else 'not known'}" for name, client in clients.items())


async def _execute_once(project: Project) -> str:
    example = project.split.train[0]
    fields = {name: example.fields[name] for name in project.system.inputs}
    try:
        trajectory = await project.system.trace(**fields)
    except OptimasError:
        raise
    except Exception as error:
        raise OptimasError(
            f"running the system on example {example.id!r} raised {type(error).__name__}: {error}.", remedy="Call the system yourself."
        ) from error
    reward = project.system.score(example.fields, trajectory.outputs(project.system.outputs))
    return f"example {example.id!r} ran, reward {reward:.3f}"
