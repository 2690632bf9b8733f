"""The controller: state machine, selection, stopping and the loop."""

from optimas_core.controller._baseline import drift_request, find_baseline, note_drift
from optimas_core.controller._controller import Controller, Launcher
from optimas_core.controller._planning import draw_examples, knobs_of, plan_iteration, plan_warm_up
from optimas_core.controller._selection import ByGain, RoundRobin, Selection, Uniform, selection_for
from optimas_core.controller._state import (
    VALID_TRANSITIONS,
    IterationPlan,
    IterationResult,
    Phase,
    RunState,
    after_iteration,
    after_warm_up,
    moved,
)
from optimas_core.controller._stopping import stop_reason

__all__ = [
    "VALID_TRANSITIONS",
    "ByGain",
    "Controller",
    "IterationPlan",
    "IterationResult",
    "Launcher",
    "Phase",
    "RoundRobin",
    "RunState",
    "Selection",
    "Uniform",
    "after_iteration",
    "after_warm_up",
    "draw_examples",
    "drift_request",
    "find_baseline",
    "knobs_of",
    "moved",
    "note_drift",
    "plan_iteration",
    "plan_warm_up",
    "selection_for",
    "stop_reason",
]
