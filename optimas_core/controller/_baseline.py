"""What a scheduled run is compared with and starts from: the promoted configuration, and what its run recorded about it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from optimas_core.artifacts import Lease, RunWorkspace, Workspace
from optimas_core.controller._state import RunState, moved
from optimas_core.errors import ArtifactCorrupt
from optimas_core.spec import WarmStart
from optimas_core.stages import DriftRequest, StageContext, drift_decision

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Run:
    """A run of the system with its first and its last state."""

    run: RunWorkspace
    created_at: str
    first: RunState
    last: RunState


def find_baseline(workspace: Workspace, system: str) -> WarmStart | None:
    """The promoted configuration of the system, with the reward functions of the latest run that ended with it.

    Where nothing was promoted, what the latest run that read its sealed test ended with; None where there is neither.

    Raises:
        ArtifactCorrupt: the pointer, or a state of the promoted run, is damaged.
    """
    promoted = workspace.promoted(system).current()
    finished = [item for item in _runs(workspace, system) if "test" in item.last.record]
    if promoted is not None:
        finished = [item for item in finished if item.last.configuration == promoted.configuration]
        if not finished:
            stored = workspace.run(promoted.run_id).latest_state()
            lrf = RunState.from_json(stored.data).lrf if stored is not None else None
            return WarmStart(run=promoted.run_id, configuration=promoted.configuration, lrf=lrf)
    if not finished:
        return None
    latest = max(finished, key=lambda item: (item.created_at, item.run.run_id))
    return WarmStart(run=latest.run.run_id, configuration=latest.last.configuration, lrf=latest.last.lrf)


def drift_request(workspace: Workspace, baseline: WarmStart, system: str, run_id: str) -> DriftRequest:
    """What is recorded about the baseline for the check of run `run_id`: the first check of it that found nothing moved, and its run's
    sealed test.

    Validation scores of its run are not compared with: the configuration was chosen by some, and stayed because of others.

    Raises:
        ArtifactCorrupt: the run is gone, or a state of it is damaged.
    """
    run = workspace.run(baseline.run)
    stored, spec = run.latest_state(), run.read_spec()
    if stored is None or spec is None:
        raise ArtifactCorrupt(f"{run.uri} has no states.", remedy="Restore the run, or promote another one's configuration.")
    last = RunState.from_json(stored.data)
    wanted = baseline.configuration or last.configuration
    one_source = spec.get("settings", {}).get("data", {}).get("source") is not None
    checks = [
        (item.created_at, item.run.run_id, str(item.first.record["drift"]))
        for item in _runs(workspace, system)
        if item.run.run_id != run_id and "drift" in item.first.record and _is_reference(item, baseline.run, wanted)
    ]
    _, reference_run, reference = min(checks, default=("", None, None))
    return DriftRequest(
        run=baseline.run,
        configuration=wanted,
        lrf=baseline.lrf,
        reference_run=reference_run,
        reference=reference,
        test=last.record.get("test") if one_source and last.configuration == wanted else None,
    )


def _is_reference(item: _Run, run: str, configuration: str) -> bool:
    artifact = item.run.open_artifact("validations", str(item.first.record["drift"]))
    if artifact is None:
        return False
    decision = drift_decision(artifact)
    return not decision["moved"] and (decision["run"], decision["configuration"]) == (run, configuration)


def _runs(workspace: Workspace, system: str) -> Iterator[_Run]:
    """Runs of the system that have a state; one that is damaged is left out, with a warning."""
    for name in workspace.run_ids():
        run = workspace.run(name)
        try:
            spec = run.read_spec()
            if spec is None or spec.get("system", {}).get("name") != system:
                continue
            first, last = run.read_state(0), run.latest_state()
            if first is not None and last is not None:
                yield _Run(run, str(spec.get("created_at", "")), RunState.from_json(first.data), RunState.from_json(last.data))
        except (ArtifactCorrupt, AttributeError) as error:  # the latter: a spec whose `system` is no object
            _log.warning("run %s is left out: %s", name, error)


def note_drift(context: StageContext, lease: Lease, drift: str, decision: dict[str, Any]) -> RunState:
    """Append the run's first state, which names the check; where nothing moved the run ends there. Again: changes nothing.

    Raises:
        LeaseLost: another process holds the run.
    """
    stored = context.run.latest_state()
    last = RunState.from_json(stored.data) if stored is not None else None
    if last is None:
        last = RunState(configuration=context.system.configuration.digest, record={"drift": drift})
        _append(context, lease, last)
    if last.index == 0 and not decision["moved"]:
        last = moved(last, "finished", stop_reason=decision["reason"], record={"drift": drift})
        _append(context, lease, last)
    return last


def _append(context: StageContext, lease: Lease, state: RunState) -> None:
    context.budget.flush()
    lease.check()
    context.run.append_state(state.index, state.to_json(), epoch=lease.epoch)
