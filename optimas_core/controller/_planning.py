"""What the next iteration does, from the state and the run's seed alone: no library call can disturb it."""

from __future__ import annotations

import random
from collections.abc import Sequence

from optimas_core.acceptance import TestedLevel, next_level
from optimas_core.canonical import derive_seed
from optimas_core.controller._selection import selection_for
from optimas_core.controller._state import IterationPlan, RunState
from optimas_core.spec import PairedSequentialAcceptance, RunSettings
from optimas_core.system import AdapterSpace, CompoundSystem, Example


def plan_iteration(state: RunState, settings: RunSettings, system: CompoundSystem, train: Sequence[Example]) -> IterationPlan:
    """Component, knob, fresh and search inputs and the gate's level of the iteration after `state`."""
    iteration = state.iteration + 1
    candidates = [name for name in system.optimizable if knobs_of(system, name)]
    component = selection_for(settings.schedule.selection).choose(candidates, state, settings.seed)
    knobs = knobs_of(system, component)
    knob = random.Random(derive_seed("knob", settings.seed, iteration)).choice(knobs)
    fresh = draw_examples(train, settings.optimizers.fresh_inputs, "fresh", settings.seed, iteration)
    search = draw_examples(train, settings.optimizers.search_inputs, "search", settings.seed, iteration)
    own = state.preferences.get(component, ())
    others = [item for name, items in sorted(state.preferences.items()) if name != component for item in items[:1]]
    alpha = 0.0
    if isinstance(settings.acceptance, PairedSequentialAcceptance):
        past = [TestedLevel("reject", state.charged)] if state.charged else []
        alpha = next_level(settings.acceptance.alpha, past, settings.schedule.iterations - state.iteration)
    return IterationPlan(
        state=state.index,
        iteration=iteration,
        component=component,
        knob=knob,
        configuration=state.configuration,
        lrf=state.lrf,
        preferences=own,
        replay=tuple(dict.fromkeys((*own, *others))),
        fresh=fresh,
        search=search,
        alpha=alpha,
        accepted=state.accepted,
        rejected=state.rejected,
        rankings=state.rankings.get(component, ()),
    )


def plan_warm_up(settings: RunSettings, system: CompoundSystem, train: Sequence[Example]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(components, example ids) of the first preference data, which is measured under the starting configuration."""
    components = tuple(name for name in system.optimizable if knobs_of(system, name))
    return components, draw_examples(train, settings.preferences.examples, "initial", settings.seed, 0)


def knobs_of(system: CompoundSystem, component: str) -> list[str]:
    """Knobs that an optimizer of this version can change (adapters are declared only)."""
    return [knob for knob, space in system.components[component].space.items() if not isinstance(space, AdapterSpace)]


def draw_examples(train: Sequence[Example], count: int, purpose: str, seed: int, iteration: int) -> tuple[str, ...]:
    """`count` ids of the training split without replacement, from a generator of this purpose and iteration alone."""
    ids = sorted(example.id for example in train)
    random.Random(derive_seed(purpose, seed, iteration)).shuffle(ids)
    return tuple(ids[:count])
