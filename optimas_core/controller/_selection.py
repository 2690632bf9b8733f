"""Which component comes next. Each policy is a pure function of the state and a seed of the run's own."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Protocol

from optimas_core.canonical import derive_seed
from optimas_core.controller._state import RunState
from optimas_core.spec import GainSelection, RoundRobinSelection, UniformSelection


class Selection(Protocol):
    def choose(self, components: Sequence[str], state: RunState, seed: int) -> str:
        """One of `components` for the iteration after `state`."""


class Uniform:
    """The paper's policy: every component with a non-empty space is equally likely."""

    def choose(self, components: Sequence[str], state: RunState, seed: int) -> str:
        return random.Random(derive_seed("select", seed, state.iteration + 1)).choice(list(components))


class RoundRobin:
    """Each in turn, in an order shuffled once for the run."""

    def choose(self, components: Sequence[str], state: RunState, seed: int) -> str:
        order = list(components)
        random.Random(derive_seed("round-robin", seed)).shuffle(order)
        return order[state.iteration % len(order)]


class ByGain:
    """Each component once, in random order; then those whose challengers gained on validation are preferred.

    Without the first round a component that was never tried competes with the noise of one that was: a run of six iterations on four
    components could miss the only one that mattered. `exploration` is the share of uniform choices after it, so that none starves.
    """

    def __init__(self, exploration: float) -> None:
        self._exploration = exploration

    def choose(self, components: Sequence[str], state: RunState, seed: int) -> str:
        rng = random.Random(derive_seed("gain", seed, state.iteration + 1))
        seen = {name: math.fsum(values) / len(values) for name, values in state.gains.items() if values}
        fresh = [name for name in components if name not in seen]
        if fresh:
            return rng.choice(fresh)
        weights = [max(seen[name], 0.0) for name in components]
        if rng.random() < self._exploration or not any(weights):
            return rng.choice(list(components))
        return rng.choices(list(components), weights=weights)[0]


def selection_for(settings: UniformSelection | RoundRobinSelection | GainSelection) -> Selection:
    """The policy that schedule.selection names."""
    match settings:
        case UniformSelection():
            return Uniform()
        case RoundRobinSelection():
            return RoundRobin()
        case GainSelection():
            return ByGain(settings.exploration)
