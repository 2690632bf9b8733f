"""When the loop ends: iterations, patience, target. Budgets end it by refusing a call (rollouts), signals by `Interrupted`."""

from __future__ import annotations

from optimas_core.controller._state import RunState
from optimas_core.spec import ScheduleSettings


def stop_reason(state: RunState, schedule: ScheduleSettings) -> str:
    """Why the loop ends after `state`, or an empty text."""
    if state.iteration >= schedule.iterations:
        return f"all {schedule.iterations} iterations are done"
    if schedule.patience is not None and state.without_acceptance >= schedule.patience:
        return f"{state.without_acceptance} iterations in a row were not accepted (patience)"
    if schedule.target is not None and state.validation_mean is not None and state.validation_mean >= schedule.target:
        return f"the validation mean {state.validation_mean:.3f} reached the target {schedule.target:g}"
    return ""
