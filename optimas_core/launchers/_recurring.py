"""A run that starts again from what is promoted, after a look at whether anything moved. Where it runs does not matter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimas_core.artifacts import Lease, Workspace
from optimas_core.controller import RunState, drift_request, find_baseline, note_drift
from optimas_core.errors import ConfigurationError, SpecError
from optimas_core.spec import RunSettings
from optimas_core.stages import (
    DriftRequest,
    Progress,
    Project,
    StageContext,
    drift_check,
    no_progress,
    open_run,
    read_drift,
    renewed_project,
    reopen_project,
)


@dataclass(frozen=True, slots=True)
class Renewal:
    """The project of the new run. `request` asks for the drift check; None: there is nothing to compare with, and `why` says so."""

    project: Project
    request: DriftRequest | None
    why: str = ""


def renewal(workspace: Workspace, base: RunSettings, directory: Path, system: str, run_id: str) -> Renewal:
    """What run `run_id` is, which optimizes `system` again with the settings `base`. The same answer once its spec is frozen.

    Raises:
        UserError: as `load_project`.
        ArtifactCorrupt: the promoted run is damaged or gone.
    """
    nothing = f"no configuration of {system} was promoted or optimized in {workspace.url} before"
    frozen = workspace.run(run_id).read_spec()
    if frozen is not None:
        project = reopen_project(directory, workspace.url, run_id)
        start = project.settings.warm_start
        return Renewal(project, None, nothing) if start is None else Renewal(project, drift_request(workspace, start, system, run_id))
    start = find_baseline(workspace, system)
    if start is None:
        return Renewal(renewed_project(base, directory, workspace, run_id, None), None, nothing)
    try:
        project = renewed_project(base, directory, workspace, run_id, start)
    except ConfigurationError as error:
        why = f"the configuration of run {start.run} does not fit the system as it is now ({error.message.rstrip('.')})"
        return Renewal(renewed_project(base, directory, workspace, run_id, None), None, why)
    return Renewal(project, drift_request(workspace, project.settings.warm_start or start, system, run_id))


def opened_renewal(
    workspace: Workspace, base: RunSettings, directory: Path, system: str, run_id: str, *, progress: Progress = no_progress
) -> tuple[Renewal, StageContext]:
    """The renewal and its open run. Of two that begin it at once with another baseline in between, what the first froze counts for both.

    Raises:
        UserError, ArtifactCorrupt: as `renewal`.
    """
    found = renewal(workspace, base, directory, system, run_id)
    try:
        return found, open_run(found.project, progress=progress, workspace=workspace)
    except SpecError:
        again = renewal(workspace, base, directory, system, run_id)
        if again.project.identity == found.project.identity:
            raise
        return again, open_run(again.project, progress=progress, workspace=workspace)


async def check_again(context: StageContext, lease: Lease, request: DriftRequest) -> tuple[str, dict[str, Any]]:
    """Check for drift and note it as the run's first state; where nothing moved the run ends there. Returns the
    artifact's name and the decision.

    Raises:
        TemporaryError: too little could be measured; nothing is decided.
        LeaseLost: another process holds the run.
    """
    name = await drift_check(context, request)
    decision = read_drift(context, name)
    note_drift(context, lease, name, decision)
    return name, decision


def decided(context: StageContext) -> tuple[str, dict[str, Any]] | None:
    """The check's artifact and decision where the run has noted it completely; None where it is still to be done."""
    first, second = context.run.read_state(0), context.run.read_state(1)
    name = RunState.from_json(first.data).record.get("drift") if first is not None else None
    if name is None:
        return None
    decision = read_drift(context, name)
    return (name, decision) if decision["moved"] or second is not None else None
