"""Executes systems over many examples: ordered results, bounded concurrency, cache, budget. Missing is a status, never a number."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from optimas_core.artifacts import CallStore, Conflict
from optimas_core.canonical import canonical_json, derive_seed, digest
from optimas_core.crash_points import crash_point
from optimas_core.errors import (
    ArtifactCorrupt,
    AuthenticationFailed,
    BudgetExhausted,
    FormatError,
    Interrupted,
    LeaseLost,
    StoreUnavailable,
    SystemDefinitionError,
    UserError,
)
from optimas_core.rollouts._budget import Budget
from optimas_core.rollouts._cache import CallCache
from optimas_core.rollouts._ledger import Place, Spend
from optimas_core.rollouts._ordered import ordered
from optimas_core.rollouts._record import is_record
from optimas_core.rollouts._rollout import Rollout, Status, Task
from optimas_core.rollouts._threads import LoopThreads, in_short_thread
from optimas_core.system import CallContext, Component, CompoundSystem, Configuration, Trajectory, WorstCase, execute

# A run cannot go on after these; every other failure of one execution leaves that one result missing.
# The store's own faults are among them: what was paid for but could not be kept is no missing result.
_STOPS_THE_RUN = (
    UserError,
    AuthenticationFailed,
    BudgetExhausted,
    Interrupted,
    LeaseLost,
    StoreUnavailable,
    ArtifactCorrupt,
    Conflict,
)


_LOOK_AGAIN_S = 1.0


@dataclass(slots=True)
class _Meter:
    executed: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    usd: float | None = 0.0

    def add(self, usage: Iterable[Mapping[str, Any]]) -> None:
        for call in usage:
            self.tokens_in += call["tokens_in"]
            self.tokens_out += call["tokens_out"]
            self.usd = None if self.usd is None or call["usd"] is None else self.usd + call["usd"]


class LocalScorer(Protocol):
    """Scores a component's candidate outputs on one input: what `per_input` selection asks at run time."""

    def __call__(self, lrf: str, component: str, inputs: Mapping[str, Any], outputs: Sequence[Mapping[str, Any]]) -> Sequence[float]: ...


class RolloutEngine:
    """One system, one budget, one cache.

    Args:
        system: the compound system.
        budget: caps and ledger.
        calls: the workspace's call store; None caches in memory only.
        concurrency: executions of the system in flight.
        scorer: needed only for configurations with `per_input` knobs.
    """

    def __init__(
        self,
        system: CompoundSystem,
        budget: Budget,
        *,
        calls: CallStore | None = None,
        concurrency: int = 32,
        scorer: LocalScorer | None = None,
    ) -> None:
        self.system = system
        self.budget = budget
        self._cache = CallCache(calls, usable=functools.partial(is_record, system))
        self._concurrency = concurrency
        self._scorer = scorer
        # Asked before every paid execution; what it raises stops the run. Whoever drives the run sets it (lease, SIGTERM).
        self.before_call: Callable[[], None] = lambda: None
        self.last_failure: Exception | None = None  # of a component: what someone who got only missing results needs to know
        self._executing = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._threads = LoopThreads(concurrency)

    def use_scorer(self, scorer: LocalScorer) -> None:
        """Give the scorer that `per_input` knobs ask, once it is known."""
        self._scorer = scorer

    async def run(
        self,
        tasks: Sequence[Task],
        *,
        stage: str,
        iteration: int,
        on_done: Callable[[int, int], None] | None = None,
    ) -> list[Rollout]:
        """Execute every task; result i belongs to task i, whichever finishes first.

        Raises:
            BudgetExhausted, UserError, AuthenticationFailed, Interrupted, LeaseLost: the whole run must stop; tasks already in
                flight finish first, so what they cost is recorded.
        """
        self._threads.widen()
        makers = [functools.partial(self._run_one, task, stage, iteration) for task in tasks]
        return await ordered(makers, self._concurrency, on_done)

    async def remember(self, key: str, run: Callable[[], Awaitable[Mapping[str, Any]]]) -> tuple[Mapping[str, Any], bool]:
        """A record of the call cache, made by `run` where there is none yet; and whether it was there."""
        return await self._cache.get_or_run(key, run)

    async def call(
        self,
        component: str,
        inputs: Mapping[str, Any],
        knobs: Mapping[str, Any],
        *,
        repeat: int,
        stage: str,
        iteration: int,
    ) -> Mapping[str, Any]:
        """Outputs of one component on fixed inputs (through cache and budget).

        Raises:
            FormatError: the model answered in another form than declared.
            OptimasError: the call failed.
        """
        item = self.system.components[component]
        return await self._invoke(item, inputs, knobs, repeat, Place(stage, iteration, component), _Meter())

    async def call_many(
        self,
        calls: Sequence[tuple[str, Mapping[str, Any], Mapping[str, Any], int]],
        *,
        stage: str,
        iteration: int,
        on_done: Callable[[int, int], None] | None = None,
    ) -> list[Mapping[str, Any] | None]:
        """As `call` for many (component, inputs, knobs, repeat); None where one failed or had no valid form."""

        async def one(component: str, inputs: Mapping[str, Any], knobs: Mapping[str, Any], repeat: int) -> Mapping[str, Any] | None:
            try:
                return await self.call(component, inputs, knobs, repeat=repeat, stage=stage, iteration=iteration)
            except _STOPS_THE_RUN:
                raise
            except Exception as error:
                self.last_failure = error
                return None  # missing: the caller leaves this candidate out

        self._threads.widen()
        return await ordered([functools.partial(one, *item) for item in calls], self._concurrency, on_done)

    def deterministic(self, components: Iterable[str], configuration: Configuration) -> bool:
        """Whether equal inputs give equal outputs for all the named components under `configuration`."""
        return all(
            self.system.components[name].deterministic({**self.system.components[name].defaults, **configuration.of(name)})
            for name in components
        )

    async def _run_one(self, task: Task, stage: str, iteration: int) -> Rollout:
        meter = _Meter()
        repeated = self.system.downstream(task.resample) if task.resample else frozenset(self.system.components)

        async def invoke(item: Component, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
            knobs = {**item.defaults, **task.configuration.of(item.name)}
            repeat = task.repeat if item.name in repeated else 0
            return await self._invoke(item, inputs, knobs, repeat, Place(stage, iteration, item.name), meter)

        status: Status = "ok"
        reward: float | None = None
        trajectory: Trajectory | None = None
        message = ""
        try:
            trajectory = await execute(self.system, task.example.fields, invoke, given=task.given, until=task.until)
            if task.until is None:
                reward = self.system.score(task.example.fields, trajectory.outputs(self.system.outputs))
        except _STOPS_THE_RUN:
            raise
        except FormatError as error:
            status, reward, message = "format_error", self.system.metric_range[0], str(error)
        except Exception as error:  # whatever a component raises, this one result is missing
            status, message = "missing", f"{type(error).__name__}: {error}"
            self.last_failure = error
        fraction = meter.executed / len(self.system.components)
        return Rollout(task.example.id, status, reward, trajectory, fraction, meter.tokens_in, meter.tokens_out, meter.usd, message)

    async def _invoke(
        self,
        item: Component,
        inputs: Mapping[str, Any],
        knobs: Mapping[str, Any],
        repeat: int,
        place: Place,
        meter: _Meter,
    ) -> Mapping[str, Any]:
        open_knob = next((name for name, value in knobs.items() if isinstance(value, Mapping) and "per_input" in value), None)
        if open_knob is not None:
            return await self._choose(item, inputs, knobs, open_knob, repeat, place, meter)
        counted = 0 if item.deterministic(knobs) else repeat
        key = digest([item.name, item.fingerprint, digest(knobs), inputs, counted])

        async def run() -> Mapping[str, Any]:
            return await self._execute(item, inputs, knobs, key, place, meter)

        record, cached = await self._cache.get_or_run(key, run)
        meter.add(record["usage"])  # what the result cost when it was paid for, so a resumed run records the same
        if cached:
            self.budget.record_cached(place)
        if record["status"] == "format_error":
            raise FormatError(record["error"])
        outputs: Mapping[str, Any] = record["outputs"]
        return outputs

    async def _execute(
        self,
        item: Component,
        inputs: Mapping[str, Any],
        knobs: Mapping[str, Any],
        key: str,
        place: Place,
        meter: _Meter,
    ) -> Mapping[str, Any]:
        self.before_call()
        share = 1 / len(self.system.components)
        worst = item.worst_case(inputs, knobs)
        reservation = await self._reserve(worst, share)

        async def again(bound: WorstCase) -> None:
            nonlocal reservation
            self._executing -= 1  # while it waits for room it makes none
            try:
                reservation = await self._reserve(bound, 0.0, beside=reservation)
            finally:
                self._executing += 1

        context = CallContext(derive_seed("call", key), bound=worst, again=again)
        outputs: Mapping[str, Any] = {}
        status, message, ran = "ok", "", 0.0
        self._executing += 1
        try:
            crash_point("paid-call.before")
            # Copies: a component that changes what it is given must not change what the cache serves to others.
            outputs = await item.body(copy.deepcopy(inputs), copy.deepcopy(knobs), context)
            ran = share
        except FormatError as error:
            status, message, ran = "format_error", error.message, share
        finally:
            crash_point("paid-call.after")
            self._executing -= 1
            self.budget.settle(reservation, place, context.usage, system_runs=ran)
            self._wake_next()
        meter.executed += 1
        usage = [
            {
                "model": call.model,
                "tokens_in": call.tokens_in,
                "tokens_out": call.tokens_out,
                "usd": call.usd,
                "latency_s": round(call.latency_s, 4),
                "attempts": call.attempts,
                "finish_reason": call.finish_reason,
            }
            for call in context.usage
        ]
        try:
            plain = json.loads(canonical_json(outputs))
        except (TypeError, ValueError) as error:
            raise SystemDefinitionError(
                f"component {item.name!r} returned something JSON cannot hold: {error}.",
                remedy="Return text, numbers, lists, dicts.",
            ) from None
        return {"component": item.name, "outputs": plain, "status": status, "error": message, "usage": usage}

    async def _reserve(self, worst: WorstCase, system_runs: float, *, beside: Spend | None = None) -> Spend:
        """Worst cases of the calls in flight may fill a cap that their real cost does not: wait for them before giving up.

        Raises:
            BudgetExhausted: it does not fit beside what is really spent.
        """
        first = True
        while True:
            try:
                reservation = self.budget.reserve(worst, system_runs, beside=beside)
            except BudgetExhausted:
                if self._executing == 0 or not self.budget.fits_once_settled(worst, system_runs):
                    self._wake_next()  # it may be told the same
                    raise
            else:
                self._wake_next()  # there may be room for another
                return reservation
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            if first:
                self._waiting.append(turn)
            else:
                self._waiting.appendleft(turn)
            first = False
            # The time-out is for room made elsewhere: by another process, or by a proposer.
            await asyncio.wait((turn,), timeout=_LOOK_AGAIN_S)
            with contextlib.suppress(ValueError):
                self._waiting.remove(turn)

    def _wake_next(self) -> None:
        """Let the one that has waited longest for room in the caps look again."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done() and not turn.get_loop().is_closed():
                turn.set_result(None)
                return

    async def _choose(
        self,
        item: Component,
        inputs: Mapping[str, Any],
        knobs: Mapping[str, Any],
        knob: str,
        repeat: int,
        place: Place,
        meter: _Meter,
    ) -> Mapping[str, Any]:
        """`per_input` selection: run the component with every value and keep the output with the highest local reward (Eq. 5)."""
        if self._scorer is None:
            raise SystemDefinitionError(
                f"{item.name}.{knob} is chosen per input, which needs its Local Reward Function.",
                remedy="Run it through Optimas.",
            )
        policy = knobs[knob]
        outputs: list[Mapping[str, Any]] = []
        refused: FormatError | None = None
        for value in policy["per_input"]:
            try:
                outputs.append(await self._invoke(item, inputs, {**knobs, knob: value}, repeat, place, meter))
            except FormatError as error:
                refused = error  # this value is out; the others still compete
        if not outputs:
            raise refused or SystemDefinitionError(f"{item.name}.{knob} has no values to choose from.", remedy="Name some.")
        scorer = self._scorer
        scores = await in_short_thread(lambda: scorer(policy["lrf"], item.name, inputs, outputs))
        best = max(range(len(outputs)), key=lambda index: (scores[index], -index))
        return outputs[best]
