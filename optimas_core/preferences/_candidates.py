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
    """The incumbent first, then `count - 1` others.

    A tool, a selector or a model choice: other values of V_k, drawn from the example's own seed. A language model: the prompt's other
    formats, then samples at `temperature` in every format in turn, since the format decides most about what a small model writes; one in
    four of its candidates has another value of a discrete knob.
    """
    full = {**component.defaults, **knobs}
    values = [
        Variant(f"{knob}={value}", {**full, knob: value})
        for knob, space in component.space.items()
        if isinstance(space, Choice | NumberGrid | ModelChoice)
        for value in space.values
        if canonical_json(value) != canonical_json(full[knob])
    ]
    random.Random(derive_seed("variants", seed, component.name, example_id)).shuffle(values)
    if component.explore is None:
        return [Variant(INCUMBENT, full), *values][:count]
    formats = [
        Variant(f"format={name}", {**full, knob: {**full[knob], "format": name}})
        for knob, space in component.space.items()
        if isinstance(space, PromptSpace)
        for name in space.formats
        if name != full[knob]["format"]
    ]
    bases = [*formats, Variant(INCUMBENT, full)]
    samples = [
        Variant(f"{base.label}, sample {index}", component.explore(base.knobs, temperature), index)
        for index in range(1, count)
        for base in bases
    ]
    generated = [*formats, *samples]
    # Another model is always tried where the model is a choice; other discrete values where there is room.
    models = [item for item in values if isinstance(component.space[item.label.split("=")[0]], ModelChoice)]
    kept = models[:1] + [item for item in values if item not in models][: count // 4 if count > 4 else 0]
    return [Variant(INCUMBENT, full), *kept, *generated][:count]


def distinct(produced: Sequence[tuple[str, Mapping[str, Any] | None]]) -> list[Candidate]:
    """Merge (label, output) by canonical text of the output, in the order of first appearance; missing ones are left out."""
    merged: dict[str, tuple[list[str], Mapping[str, Any]]] = {}
    for label, output in produced:
        if output is not None:
            merged.setdefault(canonical_json(output), ([], output))[0].append(label)
    return [Candidate(tuple(labels), output) for labels, output in merged.values()]
