"""A run that starts again from what is promoted, after a look at whether anything moved. Where it runs does not matter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimas_core.artifacts import Lease, Workspace
from optimas_core.controller import drift_request, find_baseline, note_drift
from optimas_core.errors import ConfigurationError
from optimas_core.spec import RunSettings, WarmStart
from optimas_core.stages import DriftRequest, Project, StageContext, drift_check, read_drift, renewed_project


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
    frozen = workspace.run(run_id).read_spec()
    if frozen is None:
        start = find_baseline(workspace, system)
    else:
        kept = frozen["settings"].get("warm_start")
        start = None if kept is None else WarmStart.model_validate(kept)
    try:
        project = renewed_project(base, directory, workspace, run_id, start)
    except ConfigurationError as error:
        if start is None or frozen is not None:
            raise
        why = f"the configuration of run {start.run} does not fit the system as it is now ({error.message.rstrip('.')})"
        return Renewal(renewed_project(base, directory, workspace, run_id, None), None, why)
    if start is None:
        return Renewal(project, None, f"no configuration of {system} was promoted or optimized in {workspace.url} yet")
    return Renewal(project, drift_request(workspace, start))


async def check_again(context: StageContext, lease: Lease, request: DriftRequest) -> dict[str, Any]:
    """Check for drift and note it as the run's first state; where nothing moved the run ends there. Returns the decision.

    Raises:
        TemporaryError: too little could be measured; nothing is decided.
        LeaseLost: another process holds the run.
    """
    name = await drift_check(context, request)
    decision = read_drift(context, name)
    note_drift(context, lease, name, decision)
    return decision
