"""One run: the real Controller and the real gate; only the stages are played, by a system whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from _gate.population import NULL, Population
from optimas_core import CompoundSystem, NumberGrid, component
from optimas_core.acceptance import gate_for
from optimas_core.artifacts import Lease
from optimas_core.canonical import derive_seed
from optimas_core.controller import Controller, IterationPlan, IterationResult, RunState
from optimas_core.spec import AcceptanceSettings, DataSettings, RunSettings, ScheduleSettings
from optimas_core.stages import StageContext
from optimas_core.system import Example

PAIRS_OF_SCORES = [(float(i), float(j)) for i in (0, 1) for j in (0, 1)]
_LEASE = cast(Lease, SimpleNamespace(check=lambda: None, epoch=1))


@dataclass(frozen=True)
class Case:
    """`real`: (up, down) of the one edit of the run that has an effect, or None. `stochastic`: every measurement draws anew."""

    iterations: int
    real: tuple[float, float] | None
    stochastic: bool
    items: int
    test_items: int = 200


@dataclass
class Outcome:
    """What one run did. Items are paired validation items of one test."""

    false_accept: bool = False
    found: bool = False
    null_items: list[int] = field(default_factory=list)
    real_items: int | None = None
    final_bias: float = 0.0
    validation_bias: float = 0.0


def build_system() -> CompoundSystem:
    """Some system with one knob: what the knob does is played by the launcher."""

    def answer(question: str, edit: int = 0) -> str:
        return question

    only = component(answer, outputs="answer", space={"edit": NumberGrid(0, 1)})
    return CompoundSystem([only], outputs=["answer"], metric=lambda example, outputs: 0.0)


class Simulated:
    """The launcher's side of a run. `rng` draws the truth; the gate has its own seed, as in the product."""

    def __init__(self, settings: RunSettings, case: Case, rng: np.random.Generator, grid: np.ndarray) -> None:
        self.outcome = Outcome()
        self._settings, self._case, self._rng = settings, case, rng
        self._gate = gate_for(settings.acceptance)
        self._population = Population(grid, grid.copy())
        self._difficulty = rng.choice(grid, size=case.items)
        self._truth = self._difficulty.copy()  # P(right) of each validation item, for stochastic systems
        self._incumbent = rng.random(case.items) < self._truth
        self._measured = self._gate.first_items(case.items)
        self._real_at = 1 + int(rng.integers(case.iterations)) if case.real else 0

    def warm_up(self, components: tuple[str, ...], configuration: str, examples: tuple[str, ...]) -> tuple[Mapping[str, str], str | None]:
        return {}, None

    def iterate(self, plan: IterationPlan) -> IterationResult:
        """An edit is proposed and judged: all items at once, since the verdict is that of the first look that ends the test."""
        case, rng = self._case, self._rng
        real = plan.iteration == self._real_at
        up, down = case.real if real and case.real else NULL
        if case.stochastic:
            challenger = rng.random(case.items) < self._truth
        else:
            challenger = self._population.flips(rng, self._difficulty, self._incumbent, up, down)
        decision = self._gate.decide(
            [PAIRS_OF_SCORES[code] for code in (2 * self._incumbent + challenger).tolist()],
            alpha=plan.alpha,
            available=case.items,
            metric_range=(0.0, 1.0),
            seed=derive_seed("gate", self._settings.seed, plan.iteration),
        )
        self._measured = max(self._measured, decision.next_items)
        if real:
            self.outcome.real_items = decision.next_items
        else:
            self.outcome.null_items.append(decision.next_items)
        accepted = decision.kind == "accept"
        if accepted:
            self._accept(real, challenger, up, down, decision.next_items)
        return IterationResult(
            configuration=f"{plan.configuration}+{plan.iteration}" if accepted else plan.configuration,
            lrf=None,
            mini_batch="",
            verdict=decision.verdict or "indecisive",
            reason=decision.reason,
            alpha_spent=decision.alpha_spent,
            difference=decision.difference,
            validation_mean=None,
            proposals="",
            ranking="",
            validation=None,
            adapted=False,
        )

    def test(self, before: str, after: str) -> str:
        """The sealed test: new items, read once. Its mean is the score that a run reports."""
        answers = self._population.answers(self._rng, self._case.test_items)
        self.outcome.final_bias = float(answers.mean()) - self._population.score
        self.outcome.validation_bias = float(self._incumbent[: self._measured].mean()) - self._population.score
        return "test"

    def _accept(self, real: bool, challenger: np.ndarray, up: float, down: float, items: int) -> None:
        self.outcome.found |= real
        self.outcome.false_accept |= not real
        self._measured = items
        if self._case.stochastic:
            self._incumbent = self._rng.random(self._case.items) < self._truth  # measured anew after an acceptance
        else:
            self._incumbent, self._population = challenger, self._population.edited(up, down)


class _StatesInMemory:
    """The run's states for the Controller; a simulation of thousands of runs keeps nothing on a disk."""

    def latest_state(self) -> None:
        return None

    def put_configuration(self, configuration: Mapping[str, Any]) -> str:
        return "start"

    def append_state(self, index: int, data: Mapping[str, Any], *, epoch: int) -> None:
        """Nothing to do: the Controller goes on from the state it appended."""


def simulate_run(acceptance: AcceptanceSettings, case: Case, system: CompoundSystem, seed: int, grid: np.ndarray) -> Outcome:
    """One whole run of `case` from its seed."""
    settings = RunSettings(
        system="simulated:build",
        data=DataSettings(source="simulated"),
        seed=seed,
        acceptance=acceptance,
        schedule=ScheduleSettings(iterations=case.iterations, patience=None),
    )
    played = Simulated(settings, case, np.random.default_rng(seed), grid)
    example = Example("e0", {"question": "?", "answer": "!"})
    context = SimpleNamespace(
        settings=settings,
        system=system,
        split=SimpleNamespace(train=[example], test=[]),
        run=_StatesInMemory(),
        budget=SimpleNamespace(hold_back=lambda runs: None, flush=lambda: None),
    )
    last: RunState = Controller(cast(StageContext, context), played, _LEASE).run()
    assert last.phase == "finished"
    return played.outcome
