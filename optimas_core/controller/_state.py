"""The state of a run: small, immutable, appended at every step. The workspace holds nothing else that decides what comes next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from optimas_core.errors import ArtifactCorrupt

Phase = Literal["created", "warm", "iterating", "testing", "finished"]

# What may follow what. `warm`: the first preference data and LRFs are committed. `testing`: the loop has ended and the sealed test is
# read once. A run stopped by a signal keeps its phase and goes on from there; a budget that ends the loop moves it to `testing`.
# A scheduled run whose drift check found that nothing moved ends where it began.
VALID_TRANSITIONS: Mapping[Phase, frozenset[Phase]] = {
    "created": frozenset({"warm", "finished"}),
    "warm": frozenset({"iterating", "testing"}),
    "iterating": frozenset({"iterating", "testing"}),
    "testing": frozenset({"finished"}),
    "finished": frozenset(),
}

# Mini-batches remembered for replay and demonstrations, newest first, for each component.
_REMEMBERED = 8
_REQUIRED = {"index", "phase", "iteration", "configuration", "preferences", "gains", "rankings", "rejected"}


@dataclass(frozen=True)
class RunState:
    """One step of a run. `record` holds what only this step did; histories are read from the earlier states.

    `preferences`: component -> artifacts that hold its pairs, newest first. `charged`: alpha of the acceptance gate that is gone.
    `rejected`: challengers that were judged against the present incumbent; they are not sent to validation again.
    """

    index: int = 0
    phase: Phase = "created"
    iteration: int = 0
    configuration: str = ""
    lrf: str | None = None
    preferences: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    gains: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    rankings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rejected: tuple[str, ...] = ()
    accepted: int = 0
    without_acceptance: int = 0
    charged: float = 0.0
    validation_mean: float | None = None
    stop_reason: str = ""
    record: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RunState:
        """Raises ArtifactCorrupt if `data` is no state of this version: a key is missing or unknown, or a value of another type."""
        wrong = sorted({*(_REQUIRED - data.keys()), *(data.keys() - {item.name for item in fields(cls)})})
        if wrong:
            problem = f"the key {wrong[0][:80]!r} is missing or unknown"
        else:
            try:
                return _adapter().validate_python(data)
            except ValidationError as error:
                first = error.errors(include_url=False, include_input=False)[0]
                problem = f"{'.'.join(map(str, first['loc']))[:80]!r}: {first['msg'][:120]}"
        raise ArtifactCorrupt(f"a run state cannot be read: {problem}.", remedy="Restore it from a copy.")


@lru_cache(maxsize=1)
def _adapter() -> TypeAdapter[RunState]:
    return TypeAdapter(RunState)


@dataclass(frozen=True, slots=True)
class IterationPlan:
    """What one iteration is to do; every field follows from state number `state` and the run's seed."""

    state: int
    iteration: int
    component: str
    knob: str
    configuration: str
    lrf: str | None
    preferences: tuple[str, ...]
    replay: tuple[str, ...]
    fresh: tuple[str, ...]
    search: tuple[str, ...]
    alpha: float
    accepted: int
    rejected: tuple[str, ...] = ()
    rankings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class IterationResult:
    """What an iteration committed. `verdict` is `kept` where nothing beat the incumbent locally: no validation was spent."""

    configuration: str
    lrf: str | None
    mini_batch: str
    verdict: Literal["accept", "reject", "indecisive", "kept"]
    reason: str
    alpha_spent: float
    difference: float | None
    validation_mean: float | None
    proposals: str
    ranking: str
    validation: str | None
    adapted: bool
    challenger: str | None = None


def moved(state: RunState, phase: Phase, **changes: Any) -> RunState:
    """The next state. Raises ValueError for a transition that VALID_TRANSITIONS does not have."""
    if phase not in VALID_TRANSITIONS[state.phase]:
        raise ValueError(f"a run cannot go from {state.phase} to {phase}")
    return replace(state, index=state.index + 1, phase=phase, **{"record": {}, **changes})


def after_warm_up(state: RunState, preferences: Mapping[str, str], lrf: str | None, record: Mapping[str, Any]) -> RunState:
    """The first preference data and LRFs are committed."""
    return moved(state, "warm", preferences={name: (item,) for name, item in preferences.items()}, lrf=lrf, record=dict(record))


def after_iteration(state: RunState, plan: IterationPlan, result: IterationResult, record: Mapping[str, Any]) -> RunState:
    """Apply an iteration: exactly one component's configuration may differ; a rejected challenger leaves v as it was."""
    accepted = result.verdict == "accept"
    if not accepted and result.configuration != state.configuration:
        raise ValueError("a challenger that was not accepted must leave the configuration as it was")
    earlier = state.preferences.get(plan.component, ())
    # Also a rejected challenger's difference tells what the component may still give: the gate asks for more certainty than that.
    gain = max(result.difference or 0.0, 0.0)
    gains = (*state.gains.get(plan.component, ()), gain)[-_REMEMBERED:]
    return moved(
        state,
        "iterating",
        iteration=plan.iteration,
        configuration=result.configuration,
        lrf=result.lrf,
        preferences={**state.preferences, plan.component: (result.mini_batch, *earlier)[:_REMEMBERED]},
        gains={**state.gains, plan.component: gains},
        rankings={**state.rankings, plan.component: (result.ranking, *state.rankings.get(plan.component, ()))[:_REMEMBERED]},
        rejected=_rejected(state, result),
        accepted=state.accepted + accepted,
        without_acceptance=0 if accepted else state.without_acceptance + 1,
        # an accepted test's level comes back to the run (docs/design/0002-gate.md)
        charged=state.charged + (0.0 if accepted else result.alpha_spent),
        validation_mean=result.validation_mean if result.validation_mean is not None else state.validation_mean,
        record=dict(record),
    )


def _rejected(state: RunState, result: IterationResult) -> tuple[str, ...]:
    """Challengers judged against the incumbent that `result` leaves: none after an acceptance."""
    if result.verdict == "accept":
        return ()
    return (*state.rejected, result.challenger) if result.verdict == "reject" and result.challenger else state.rejected
