"""The coordinate-maximization loop (Algorithm 1): read the last state, do one step, append the next state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Protocol, TypeVar

from optimas_core.artifacts import Conflict, Lease
from optimas_core.controller._planning import plan_iteration, plan_warm_up
from optimas_core.controller._state import IterationPlan, IterationResult, RunState, after_iteration, after_warm_up, moved
from optimas_core.controller._stopping import stop_reason
from optimas_core.errors import ArtifactCorrupt, BudgetExhausted
from optimas_core.spec import PairedSequentialAcceptance
from optimas_core.stages import StageContext

Result = TypeVar("Result")


class Launcher(Protocol):
    """Where stages run. Every method returns names of committed artifacts; calling one again is free."""

    def warm_up(self, components: tuple[str, ...], configuration: str, examples: tuple[str, ...]) -> tuple[Mapping[str, str], str | None]:
        """First preference data (component -> artifact) and LRFs."""

    def iterate(self, plan: IterationPlan) -> IterationResult:
        """One iteration."""

    def test(self, before: str, after: str) -> str:
        """The sealed test of both arms."""


class Controller:
    """Drives one run. All that it knows is in the workspace; killed at any moment it goes on from the last state.

    Args:
        context: the run.
        launcher: where iterations are executed.
        lease: this process holds the run; its epoch fences every state.
        on_state: told every appended state.
    """

    def __init__(
        self, context: StageContext, launcher: Launcher, lease: Lease, *, on_state: Callable[[RunState], None] = lambda state: None
    ) -> None:
        self._context = context
        self._launcher = launcher
        self._lease = lease
        self._on_state = on_state

    def run(self) -> RunState:
        """Step until the run is finished.

        Raises:
            BudgetExhausted: even the sealed test could not be paid for; resume with a higher cap.
            Interrupted: SIGTERM or SIGINT; what was committed stays.
            LeaseLost: another process holds the run.
        """
        state = self.current()
        if state.phase != "testing":
            self._context.budget.hold_back(2.0 * len(self._context.split.test))
        while state.phase != "finished":
            state = self.step(state)
        return state

    def current(self) -> RunState:
        """The last appended state, or the first one."""
        stored = self._context.run.latest_state()
        if stored is not None:
            return RunState.from_json(stored.data)
        start = self._context.system.configuration
        first = RunState(configuration=self._context.run.put_configuration(start.to_json()))
        return self._append(first)

    def step(self, state: RunState) -> RunState:
        """One step from `state`: warm up, iterate, or read the sealed test. Returns the appended state."""
        settings = self._context.settings
        match state.phase:
            case "created":
                return self._warm_up(state)
            case "warm" | "iterating":
                reason = state.stop_reason or stop_reason(state, settings.schedule)
                if reason:
                    return self._append(moved(state, "testing", stop_reason=reason))
                plan = plan_iteration(state, settings, self._context.system, self._context.split.train)
                if isinstance(settings.acceptance, PairedSequentialAcceptance) and plan.alpha <= 0:
                    return self._append(moved(state, "testing", stop_reason="the acceptance level is used up"))
                try:
                    result = self._restoring(state, lambda: self._launcher.iterate(plan))
                except BudgetExhausted as error:
                    return self._append(moved(state, "testing", stop_reason=error.message))
                return self._append(after_iteration(state, plan, result, self._record(plan, result)))
            case "testing":
                start = self._context.system.configuration.digest
                self._context.budget.hold_back(0.0)
                name = self._restoring(state, lambda: self._launcher.test(start, state.configuration))
                return self._append(moved(state, "finished", record={"test": name}))
            case "finished":
                return state

    def _restoring(self, state: RunState, work: Callable[[], Result]) -> Result:
        """`work`, once more after what it lacked is derived again: the folder of a damaged artifact, deleted as its error advised."""
        try:
            return work()
        except ArtifactCorrupt:
            if not self._missing(state):
                raise
        self._restore()
        return work()

    def _restore(self) -> None:
        """Every step is a function of the state before it: done again it commits the same names, and what is there costs nothing."""
        states = (RunState.from_json(stored.data) for stored in self._context.run.states())
        before = next(states)
        for step in states:
            if step.phase == "warm" and self._missing(step):
                self._first_data(before)
            elif step.phase == "iterating" and self._missing(step):
                self._launcher.iterate(plan_iteration(before, self._context.settings, self._context.system, self._context.split.train))
            before = step

    def _missing(self, state: RunState) -> bool:
        """Whether an artifact that a state refers to is gone."""
        referred = [("preferences", name) for names in state.preferences.values() for name in names]
        referred += [("proposals", name) for names in state.rankings.values() for name in names]
        configuration = self._context.configuration(state.configuration)
        chosen = [value for name in self._context.system.components for value in configuration.of(name).values()]
        lrfs = [state.lrf, *(value.get("lrf") for value in chosen if isinstance(value, Mapping))]
        referred += [("lrf", name) for name in lrfs if name is not None]
        return any(self._context.existing(kind, name) is None for kind, name in referred)

    def _first_data(self, state: RunState) -> tuple[Mapping[str, str], str | None]:
        components, examples = plan_warm_up(self._context.settings, self._context.system, self._context.split.train)
        return self._launcher.warm_up(components, state.configuration, examples)

    def _warm_up(self, state: RunState) -> RunState:
        preferences, lrf = self._first_data(state)
        return self._append(after_warm_up(state, preferences, lrf, {"preferences": dict(preferences), "lrf": lrf}))

    def _record(self, plan: IterationPlan, result: IterationResult) -> dict[str, Any]:
        return {"plan": asdict(plan), "result": asdict(result)}

    def _append(self, state: RunState) -> RunState:
        self._context.budget.flush()
        self._lease.check()
        try:
            self._context.run.append_state(state.index, state.to_json(), epoch=self._lease.epoch)
        except Conflict:
            # A former holder woke up between its last look at the lease and its write: what it appended counts, and is gone on from.
            there = self._context.run.read_state(state.index)
            if there is None:
                raise
            state = RunState.from_json(there.data)
        self._on_state(state)
        return state
