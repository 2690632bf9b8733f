"""Collects preference data of one component: frozen inputs, candidate outputs, downstream rollouts, labels (section 4.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optimas_core.preferences._candidates import Candidate, Variant, distinct, variants
from optimas_core.preferences._labelling import LabelledPair, ScoredCandidate, label_pairs
from optimas_core.preferences._racing import undecided
from optimas_core.rollouts import Rollout, RolloutEngine, Task
from optimas_core.spec import PreferenceSettings
from optimas_core.system import Configuration, Example


@dataclass(frozen=True, slots=True)
class InputRecord:
    """Everything measured on one example: x_k, the scored candidates, the rollouts as recorded, the pairs."""

    example_id: str
    context: Mapping[str, Any]
    candidates: tuple[ScoredCandidate, ...]
    rollouts: tuple[tuple[str, int, Mapping[str, Any], Rollout], ...]
    pairs: tuple[LabelledPair, ...]


@dataclass(frozen=True, slots=True)
class Collected:
    """Preference data of one component under one configuration. `rollouts_saved`: what racing and determinism spared."""

    component: str
    inputs: tuple[InputRecord, ...]
    rollouts_done: int
    rollouts_saved: int


async def collect(
    engine: RolloutEngine,
    component: str,
    examples: Sequence[Example],
    configuration: Configuration,
    settings: PreferenceSettings,
    *,
    stage: str,
    iteration: int,
    seed: int,
    proposals: Sequence[Variant] = (),
    candidates: int | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Collected:
    """Run the system up to C_k under `configuration`, sample candidate outputs of C_k there, roll each out downstream, label.

    Candidates come from the incumbent, from its space, and from `proposals` (this iteration's). Expected answers are never
    candidates. Upstream runs once per example; components that do not depend on C_k keep their outputs.

    Returns:
        One InputRecord for each example whose upstream run succeeded and on which C_k runs, in the order of `examples`.
    """
    item = engine.system.components[component]
    knobs = {**item.defaults, **configuration.of(component)}
    count = settings.candidates if candidates is None else candidates

    def report(what: str) -> Callable[[int, int], None]:
        return lambda done, total: on_progress(what, done, total) if on_progress else None

    upstream = await engine.run(
        [Task(example, configuration, until=component) for example in examples],
        stage=stage,
        iteration=iteration,
        on_done=report(f"{component}: running upstream"),
    )
    frozen = [frozen_input(engine, component, example, rollout) for example, rollout in zip(examples, upstream, strict=True)]
    present = [(example, *data) for example, data in zip(examples, frozen, strict=True) if data is not None]

    plans = [
        [
            *variants(item, knobs, count=count, temperature=settings.temperature, example_id=example.id, seed=seed),
            *proposals,
        ]
        for example, _, _ in present
    ]
    calls = [
        (component, context, variant.knobs, variant.repeat)
        for (_, context, _), plan in zip(present, plans, strict=True)
        for variant in plan
    ]
    outputs = iter(
        await engine.call_many(calls, stage=stage, iteration=iteration, on_done=report(f"{component}: sampling candidate outputs"))
    )
    found = [distinct([(variant.label, next(outputs)) for variant in plan]) for plan in plans]

    downstream = engine.system.downstream(component)
    exact = engine.deterministic(downstream, configuration)
    most = 1 if exact else settings.rollouts
    rollouts = await _roll_out(engine, component, present, found, configuration, settings, most, stage, iteration, report)
    records = []
    for (example, context, _), cands, rolled in zip(present, found, rollouts, strict=True):
        scored = tuple(
            ScoredCandidate(cand.labels, cand.output, tuple(r.reward for r in runs if r.reward is not None))
            for cand, runs in zip(cands, rolled, strict=True)
        )
        pairs = label_pairs(scored, min_gap_se=settings.min_gap_se, deterministic=exact)
        recorded = tuple(
            (cand.labels[0], repeat, cand.output, run) for cand, runs in zip(cands, rolled, strict=True) for repeat, run in enumerate(runs)
        )
        records.append(InputRecord(example.id, context, scored, recorded, tuple(pairs)))
    done = sum(len(runs) for rolled in rollouts for runs in rolled)
    planned = settings.rollouts * sum(len(cands) for cands in found)
    return Collected(component, tuple(records), done, planned - done)


def frozen_input(
    engine: RolloutEngine, component: str, example: Example, rollout: Rollout
) -> tuple[Mapping[str, Any], Mapping[str, Mapping[str, Any]]] | None:
    """x_k and the outputs of the upstream steps; None where the upstream run is missing or C_k would be skipped."""
    if rollout.trajectory is None:
        return None
    item = engine.system.components[component]
    # A column named as a field that a skipped component did not write (the expected answer, say) is no input.
    columns = {name: value for name, value in example.fields.items() if engine.system.writer(name) is None}
    fields = {**columns, **rollout.trajectory.fields}
    if any(name not in fields for name in item.inputs):
        return None
    if item.when is not None and not (
        all(name in fields for name in item.when.fields) and item.when.holds(**{name: fields[name] for name in item.when.fields})
    ):
        return None
    context = {name: fields[name] for name in item.inputs}
    context |= {name: fields.get(name, default) for name, default in item.optional_inputs.items()}
    return context, {name: step.outputs for name, step in rollout.trajectory.steps.items()}


async def _roll_out(
    engine: RolloutEngine,
    component: str,
    present: Sequence[tuple[Example, Mapping[str, Any], Mapping[str, Mapping[str, Any]]]],
    found: Sequence[Sequence[Candidate]],
    configuration: Configuration,
    settings: PreferenceSettings,
    most: int,
    stage: str,
    iteration: int,
    report: Callable[[str], Callable[[int, int], None]],
) -> list[list[list[Rollout]]]:
    """Rounds of rollouts, shape [example][candidate][repeat]; after two rounds only undecided candidates go on (racing)."""
    low, high = engine.system.metric_range
    results: list[list[list[Rollout]]] = [[[] for _ in cands] for cands in found]
    for repeat in range(most):
        wanted: list[tuple[int, int]] = []
        for index, runs in enumerate(results):
            rewards = [[r.reward for r in cand if r.reward is not None] for cand in runs]
            alive = undecided(rewards, reward_range=high - low) if settings.racing and repeat >= 2 else range(len(runs))
            wanted += [(index, cand) for cand in alive]
        tasks = [
            Task(
                present[index][0],
                configuration,
                repeat=repeat,
                given={**present[index][2], component: found[index][cand].output},
                resample=component,
            )
            for index, cand in wanted
        ]
        done = await engine.run(
            tasks,
            stage=stage,
            iteration=iteration,
            on_done=report(f"{component}: rolling out candidates ({repeat + 1}/{most})"),
        )
        for (index, cand), rollout in zip(wanted, done, strict=True):
            results[index][cand].append(rollout)
    return results
