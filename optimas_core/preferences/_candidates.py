"""Candidate outputs y_k of one component on a frozen input x_k (paper, section 4.1, step 2)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optimas_core.canonical import canonical_json, derive_seed
from optimas_core.system import Choice, Component, ModelChoice, NumberGrid, PromptSpace

INCUMBENT = "incumbent"


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to produce a candidate output: knobs of the component and a repeat index. `label` names it in tables."""

    label: str
    knobs: Mapping[str, Any]
    repeat: int = 0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A distinct output and the labels of every variant that produced it. Distinct by canonical text."""

    labels: tuple[str, ...]
    output: Mapping[str, Any]


def variants(
    component: Component, knobs: Mapping[str, Any], *, count: int, temperature: float, example_id: str, seed: int
) -> list[Variant]:
    """The incumbent first, then `count - 1` others: other values of V_k for a tool, a selector or a model choice; the prompt's
    other format and higher temperature for a language model. Which values is drawn from the example's own seed."""
    full = {**component.defaults, **knobs}
    found = [Variant(INCUMBENT, full)]
    others: list[Variant] = []
    for knob, space in component.space.items():
        if isinstance(space, Choice | NumberGrid | ModelChoice):
            others += [
                Variant(f"{knob}={value}", {**full, knob: value})
                for value in space.values
                if canonical_json(value) != canonical_json(full[knob])
            ]
        elif isinstance(space, PromptSpace):
            others += [
                Variant(f"format={value}", {**full, knob: {**full[knob], "format": value}})
                for value in space.formats
                if value != full[knob]["format"]
            ]
    random.Random(derive_seed("variants", seed, component.name, example_id)).shuffle(others)
    if component.explore is not None:
        hot = component.explore(full, temperature)
        sampled = [Variant(f"sample:{index}", hot, index) for index in range(1, count)]
        others = (
            [item for pair in zip(others, sampled, strict=False) for item in pair]
            + others[len(sampled) :]
            + sampled[len(others) :]
        )
    return found + others[: count - 1]


def distinct(produced: Sequence[tuple[str, Mapping[str, Any] | None]]) -> list[Candidate]:
    """Merge (label, output) by canonical text of the output, in the order of first appearance; missing ones are left out."""
    merged: dict[str, tuple[list[str], Mapping[str, Any]]] = {}
    for label, output in produced:
        if output is not None:
            merged.setdefault(canonical_json(output), ([], output))[0].append(label)
    return [Candidate(tuple(labels), output) for labels, output in merged.values()]
