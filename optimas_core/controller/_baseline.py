"""What a scheduled run is compared with and starts from: the promoted configuration, and what its run recorded about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optimas_core.artifacts import Lease, RunWorkspace, Workspace
from optimas_core.controller._state import RunState, moved
from optimas_core.errors import ArtifactCorrupt
from optimas_core.spec import WarmStart
from optimas_core.stages import DriftRequest, StageContext


@dataclass(frozen=True, slots=True)
class _Finished:
    run: RunWorkspace
    created_at: str
    last: RunState


def find_baseline(workspace: Workspace, system: str) -> WarmStart | None:
    """The promoted configuration of the system with the last reward functions of its run.

    Where nothing was promoted, what the latest run that read its sealed test ended with; None where there is neither.

    Raises:
        ArtifactCorrupt: the pointer or a run's state is damaged.
    """
    promoted = workspace.promoted(system).current()
    if promoted is not None:
        stored = workspace.run(promoted.run_id).latest_state()
        lrf = RunState.from_json(stored.data).lrf if stored is not None else None
        return WarmStart(run=promoted.run_id, configuration=promoted.configuration, lrf=lrf)
    finished = [found for name in workspace.run_ids() if (found := _finished(workspace.run(name), system)) is not None]
    if not finished:
        return None
    latest = max(finished, key=lambda item: (item.created_at, item.run.run_id))
    return WarmStart(run=latest.run.run_id, configuration=latest.last.configuration, lrf=latest.last.lrf)


def drift_request(workspace: Workspace, baseline: WarmStart) -> DriftRequest:
    """Which artifacts of the baseline's run speak of its configuration.

    Scores by which the configuration was once chosen are left out: they were selected for being high. What counts is what it scored as
    the incumbent afterwards, and in the sealed test.

    Raises:
        ArtifactCorrupt: the run is gone, or a state of it is damaged.
    """
    run = workspace.run(baseline.run)
    states = [RunState.from_json(stored.data) for stored in run.states()]
    if not states:
        raise ArtifactCorrupt(f"{run.uri} has no states.", remedy="Restore the run, or promote another one's configuration.")
    wanted = baseline.configuration or states[-1].configuration
    incumbent = [
        state.record["result"]["validation"]
        for state in states
        if state.record.get("result", {}).get("validation") and state.record["plan"]["configuration"] == wanted
    ]
    challenger: list[str] = []
    test = states[-1].record.get("test")
    if test is not None and states[-1].configuration == wanted:
        challenger.append(test)
    elif test is not None and states[0].configuration == wanted:
        incumbent.append(test)
    pairs = [name for names in states[-1].preferences.values() for name in names]
    return DriftRequest(
        run=baseline.run,
        configuration=wanted,
        lrf=baseline.lrf,
        incumbent=_once(incumbent),
        challenger=_once(challenger),
        pairs=_once(pairs),
    )


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


def _finished(run: RunWorkspace, system: str) -> _Finished | None:
    """The run where it is one of the system's and has read its sealed test."""
    spec, stored = run.read_spec(), run.latest_state()
    if spec is None or stored is None or spec.get("system", {}).get("name") != system:
        return None
    last = RunState.from_json(stored.data)
    return _Finished(run, str(spec.get("created_at", "")), last) if "test" in last.record else None


def _once(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
