"""A component's matrix: what each candidate configuration writes on each example, and the global reward it leads to.

It is measured once, with the project's own `collect` and proposers, through a call store: a second start costs nothing.
Everything after it (fits, scores, orders) reads the matrix only.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optimas_core.canonical import canonical_json, derive_seed
from optimas_core.optimizers import Demonstrations, Edits, Observation, OtherValues, Proposal, Situation, without_repeats
from optimas_core.preferences import INCUMBENT, InputRecord, Variant, collect
from optimas_core.rollouts import RolloutEngine
from optimas_core.spec import PreferenceSettings
from optimas_core.system import AdapterSpace, Example, PromptSpace

STAGE = "benchmark"
_SAMPLED = 4  # candidate outputs of the incumbent for each example, its own included (the default of preferences.candidates)


@dataclass(frozen=True)
class Output:
    """One output y_k and the global reward its rollout led to."""

    fields: Mapping[str, Any]
    reward: float


@dataclass(frozen=True)
class Cell:
    """One example: x_k, the output of every candidate configuration, and the incumbent's sampled outputs (`variants`)."""

    example_id: str
    context: Mapping[str, Any]
    outputs: Mapping[str, Output]
    sampled: tuple[Output, ...]


@dataclass(frozen=True)
class Matrix:
    """All examples of one component. `candidates` names the configurations, the incumbent first; `summaries` says what each is.

    `components`, `upstream` and `downstream` count the system's steps, for equivalent system runs. `dropped`: examples on which
    some candidate gave no result.
    """

    system: str
    component: str
    candidates: tuple[str, ...]
    summaries: Mapping[str, str]
    cells: tuple[Cell, ...]
    components: int
    upstream: int
    downstream: int
    dropped: int = 0

    @property
    def example_ids(self) -> tuple[str, ...]:
        return tuple(cell.example_id for cell in self.cells)

    def runs(self, *, upstream: int, calls: int, rollouts: int) -> float:
        """Equivalent system runs: upstream executions, calls of C_k, downstream rollouts (paper, Table 3)."""
        return (upstream * self.upstream + calls + rollouts * self.downstream) / self.components

    def means(self, example_ids: Sequence[str]) -> dict[str, float]:
        """Mean global reward of each candidate over the named examples."""
        wanted = set(example_ids)
        cells = [cell for cell in self.cells if cell.example_id in wanted]
        return {name: sum(cell.outputs[name].reward for cell in cells) / len(cells) for name in self.candidates}


async def measure(
    engine: RolloutEngine,
    component: str,
    examples: Sequence[Example],
    demonstration_examples: Sequence[Example],
    *,
    candidates: int,
    seed: int,
    tell: Callable[[str, int, int], None] | None = None,
) -> Matrix:
    """Measure one component under the system's starting configuration.

    Candidate configurations: the incumbent; for a prompt every edit and `candidates` demonstration subsets, the demonstrations
    taken from `demonstration_examples` (none of `examples`, so no candidate has seen a question it is judged on); for a
    discrete knob every value.
    """
    configuration = engine.system.configuration
    item = engine.system.components[component]
    settings = PreferenceSettings(candidates=_SAMPLED)
    first = await collect(
        engine, component, demonstration_examples, configuration, settings, seed=seed, on_progress=tell, stage=STAGE, iteration=0
    )
    knobs = {**item.defaults, **configuration.of(component)}
    proposals = await _proposals(engine, component, knobs, observations(first.inputs), candidates, seed)
    variants = [Variant(proposal.label, {**knobs, **proposal.values}) for proposal in proposals]
    found = await collect(
        engine, component, examples, configuration, settings, seed=seed, proposals=variants, on_progress=tell, stage=STAGE, iteration=0
    )
    names = (INCUMBENT, *(proposal.label for proposal in proposals))
    cells = [cell for record in found.inputs if (cell := cell_of(record, names)) is not None]
    return Matrix(
        system=engine.system.name,
        component=component,
        candidates=names,
        summaries={INCUMBENT: "as it is"} | {proposal.label: proposal.summary for proposal in proposals},
        cells=tuple(cells),
        components=len(engine.system.components),
        upstream=len(engine.system.upstream(component)),
        downstream=len(engine.system.downstream(component)),
        dropped=len(examples) - len(cells),
    )


def observations(records: Sequence[InputRecord]) -> list[Observation]:
    """Every measured output, as proposers see them."""
    return [
        Observation(record.example_id, record.context, candidate.output, candidate.mean)
        for record in records
        for candidate in record.candidates
        if candidate.mean is not None
    ]


def cell_of(record: InputRecord, candidates: Sequence[str]) -> Cell | None:
    """The record as a cell; None where some candidate configuration has no measured output."""
    outputs: dict[str, Output] = {}
    sampled: list[Output] = []
    for candidate in record.candidates:
        if candidate.mean is None:
            continue
        output = Output(candidate.output, candidate.mean)
        outputs |= {label: output for label in candidate.labels if label in candidates}
        if any(label == INCUMBENT or label not in candidates for label in candidate.labels):
            sampled.append(output)  # labels of `variants` are never a proposal's
    if any(name not in outputs for name in candidates):
        return None
    return Cell(record.example_id, record.context, {name: outputs[name] for name in candidates}, tuple(sampled))


async def _proposals(
    engine: RolloutEngine, component: str, knobs: Mapping[str, Any], seen: Sequence[Observation], count: int, seed: int
) -> list[Proposal]:
    item = engine.system.components[component]
    found: list[Proposal] = []
    for knob, space in item.space.items():
        if isinstance(space, AdapterSpace):
            continue
        situation = Situation(item, knob, knobs, seen, (), 2 * count, derive_seed("alignment", seed, component, knob))
        if isinstance(space, PromptSpace):
            found += await Edits().propose(situation)
            found += await _spread(situation, count)
        else:
            found += await OtherValues().propose(situation)
    return without_repeats(found, knobs)


async def _spread(situation: Situation, count: int) -> list[Proposal]:
    """`count` demonstration subsets, drawn from twice as many: both formats and several sizes are then among them."""
    drawn = await Demonstrations().propose(situation)
    drawn.sort(key=lambda item: canonical_json(item.values))
    random.Random(derive_seed("subsets", situation.seed)).shuffle(drawn)
    return drawn[:count]
