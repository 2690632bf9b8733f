"""Stage drift-check: does the promoted configuration still score as it did, and do its reward functions still order outputs rightly?

Measured anew, in the run that would optimize again: recorded calls of other runs do not answer there, so a model that changed behind its
name is seen. The first check of a configuration is what later ones compare with, item by item; until then there is the sealed test,
whose recorded scores were not selected, and whose items are not run again (docs/design/0007-drift-check.md).
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from optimas_core.acceptance import Movement, PairedSequentialGate, gate_for, movement, partners
from optimas_core.artifacts import Artifact, RunWorkspace, current_version, read_table
from optimas_core.canonical import derive_seed
from optimas_core.errors import ArtifactCorrupt, TemporaryError
from optimas_core.rewards import RewardPair, split_by_example
from optimas_core.rollouts import Rollout, Task, first_error, in_short_thread
from optimas_core.stages._committed import DriftShape, committed
from optimas_core.stages._context import StageContext, json_file
from optimas_core.stages._generate_preferences import PreferenceRequest, generate_preferences
from optimas_core.stages._preference_tables import read_pairs, table_bytes
from optimas_core.stages._validate_accept import DECISION_FILE, VALIDATIONS_FILE, validation_order
from optimas_core.system import Example

# Apart from validation's own repeats: a score that was low enough to start a run must not be what its challengers are compared with.
_DRIFT_REPEAT = 3_000_000
# The first check measures so many times what a gate looks at first, because it is what all later ones are compared with.
_REFERENCE_LOOKS = 2


@dataclass(frozen=True, slots=True)
class DriftRequest:
    """Compare with what is recorded about `configuration` of run `run`, whose reward functions are `lrf` (None: there are none).

    `reference`: the first check of that configuration, an artifact of run `reference_run`; None where this is the first. `test`: the
    sealed test of `run`, in which the configuration was the after arm and whose items are of the same source; None: no such.
    """

    run: str
    configuration: str
    lrf: str | None
    reference_run: str | None = None
    reference: str | None = None
    test: str | None = None


@dataclass(frozen=True, slots=True)
class _Part:
    """One comparison: items with their recorded scores."""

    name: str
    pairs: tuple[tuple[str, float], ...]
    both: bool


async def drift_check(context: StageContext, request: DriftRequest) -> str:
    """Commit the scores of now and the decision; returns the artifact's name.

    Raises:
        TemporaryError: too much could not be measured to say anything; nothing is committed.
    """
    name = context.name("drift-check", asdict(request))
    if context.existing("validations", name) is not None:
        return name
    settings = context.settings.drift
    judged = request.lrf is not None and settings.preference_examples > 0
    level = settings.alpha / 2 if judged else settings.alpha
    parts = _parts(context, request)
    measured = await _measured(context, request.configuration, parts, level)
    found = {part.name: _movement(context, part, measured, level / len(parts)) for part in parts}
    preferences: dict[str, str] = {}
    alignment: dict[str, Movement] = {}
    if judged and all(item.kind == "same" for item in found.values()):
        preferences, alignment = await _alignment(context, request, settings.alpha - level)
    moved = {part: item for part, item in found.items() if item.kind != "same"}
    fallen = {component: item for component, item in alignment.items() if item.kind == "fell"}
    now = [item.reward for item in measured.values() if item.reward is not None]
    score = next(iter(moved.values()), next(iter(found.values()), None))
    summary: dict[str, Any] = {
        "moved": bool(moved or fallen),
        "reason": _reason(context, moved, fallen, found, now),
        **asdict(request),
        "alpha": settings.alpha,
        "now": {"mean": _mean(now), "n": len(now)},
        "score": None if score is None else asdict(score),
        "parts": {part: asdict(item) for part, item in found.items()},
        "alignment": {component: asdict(item) for component, item in alignment.items()},
        "preferences": preferences,
    }
    rows = [
        {"example_id": example_id, "arm": "challenger", "repeat": 0, "reward": item.reward, "status": item.status}
        for example_id, item in sorted(measured.items())
    ]
    files = {VALIDATIONS_FILE: table_bytes("validations", rows, context.run.run_id, context.created_at), DECISION_FILE: json_file(summary)}
    context.commit("validations", name, files, {"configuration": request.configuration}, {"validations": current_version("validations")})
    return name


def read_drift(context: StageContext, name: str) -> dict[str, Any]:
    """What the check decided. Raises: ArtifactCorrupt: damaged."""
    return drift_decision(context.required("validations", name))


def drift_decision(artifact: Artifact) -> dict[str, Any]:
    """What a check decided, of any run. Raises: ArtifactCorrupt: damaged."""
    decision: dict[str, Any] = committed(artifact, DECISION_FILE, DriftShape)
    return decision


def _parts(context: StageContext, request: DriftRequest) -> list[_Part]:
    """What can be compared: items that the first check measured, in both directions; other items with the sealed test, downwards."""
    baseline = RunWorkspace(context.run.store, request.run)
    if not _same_metric(context, baseline):
        return []
    items = [example.id for example in validation_order(context)]
    own: dict[str, float] = {}
    if request.reference is not None and request.reference_run is not None:
        own = _scores(RunWorkspace(context.run.store, request.reference_run), request.reference)
    parts = [_Part("items", tuple((item, own[item]) for item in items if item in own), both=True)]
    if request.test is not None and context.settings.data.source is not None:  # else the two are no draws from one source
        tested = _scores(baseline, request.test)
        seed = derive_seed("drift-partners", context.settings.seed)
        pairs = partners(tested, [item for item in items if item not in own], seed)
        parts.append(_Part("sealed test", tuple((item, tested[other]) for item, other in pairs), both=False))
    return [part for part in parts if part.pairs]


def _same_metric(context: StageContext, baseline: RunWorkspace) -> bool:
    spec = baseline.read_spec()
    known = spec["system"] if spec is not None else {}
    system = context.system
    now = (getattr(system.metric, "__name__", "metric"), list(system.metric_range))
    return (known.get("metric"), known.get("metric_range")) == now


def _scores(run: RunWorkspace, name: str) -> dict[str, float]:
    """Example id -> score of the arm that the configuration was: the challenger, in a check and in a sealed test alike."""
    artifact = run.open_artifact("validations", name)
    if artifact is None:
        raise ArtifactCorrupt(f"{run.uri} has no validations/{name}.", remedy="Restore it, or promote another run's configuration.")
    rows = read_table("validations", artifact.read(VALIDATIONS_FILE), file=f"{artifact.uri}/{VALIDATIONS_FILE}")
    return {row["example_id"]: row["reward"] for row in rows if row["arm"] == "challenger" and row["reward"] is not None}


async def _measured(context: StageContext, configuration: str, parts: Sequence[_Part], alpha: float) -> dict[str, Rollout]:
    """Example id -> fresh result, of as many items as the test of each part asks for; of the reference's number where this is the first."""
    known = {example.id: example for example in validation_order(context)}
    gate = _gate(context)
    measured: dict[str, Rollout] = {}

    async def measure(wanted: Sequence[str]) -> None:
        new = [known[item] for item in wanted if item not in measured]
        found = await _run(context, configuration, new)
        measured.update({rollout.example_id: rollout for rollout in found})

    if not any(part.name == "items" for part in parts):
        await measure(list(known)[: min(len(known), _REFERENCE_LOOKS * gate.first_items(len(known)))])
    for part in parts:
        items = [item for item, _ in part.pairs]
        wanted = gate.first_items(len(items))
        while True:
            await measure(items[:wanted])
            found = _movement(context, part, measured, alpha / len(parts), wanted)
            if found.kind != "continue":
                break
            wanted = found.next_items
        if found.kind == "indecisive":
            raise _unmeasurable(list(measured.values()))
    if all(item.reward is None for item in measured.values()):
        raise _unmeasurable(list(measured.values()))
    return measured


async def _run(context: StageContext, configuration: str, examples: Sequence[Example]) -> list[Rollout]:
    values = context.configuration(configuration)
    told = context.tell("drift check: measuring the promoted configuration")
    tasks = [Task(example, values, repeat=_DRIFT_REPEAT) for example in examples]
    return await context.engine.run(tasks, stage="drift-check", iteration=0, on_done=told)


def _unmeasurable(measured: list[Rollout]) -> TemporaryError:
    missing = sum(item.reward is None for item in measured)
    return TemporaryError(
        f"the promoted configuration could not be measured: {missing} of {len(measured)} items are missing ({first_error(measured)}).",
        remedy="Check again when that is mended; nothing was decided.",
    )


def _movement(context: StageContext, part: _Part, measured: Mapping[str, Rollout], alpha: float, wanted: int | None = None) -> Movement:
    """The test on the first items of the part: `wanted`, or as many as it needs to end."""
    pairs = [(then, measured[item].reward) for item, then in part.pairs[:wanted] if item in measured]
    seed = derive_seed("drift", context.settings.seed, context.run.run_id, part.name)
    gate, span = _gate(context), context.system.metric_range
    return movement(gate, pairs, alpha=alpha, available=len(part.pairs), metric_range=span, seed=seed, both=part.both)


def _gate(context: StageContext) -> PairedSequentialGate:
    gate = gate_for(context.settings.acceptance)
    return gate if isinstance(gate, PairedSequentialGate) else PairedSequentialGate()


async def _alignment(context: StageContext, request: DriftRequest, alpha: float) -> tuple[dict[str, str], dict[str, Movement]]:
    """Fresh pairs of held-out examples (component -> artifact), and whether accuracy on them fell since the first check."""
    model = context.reward_model(str(request.lrf))
    earlier, named = _reference_pairs(context, request)
    components = [name for name in context.system.optimizable if name in model.heads]
    examples = _held_out_examples(context, request)
    preferences: dict[str, str] = {}
    for component in components if examples else ():
        wanted = PreferenceRequest(0, (component,), request.configuration, examples)
        preferences[component] = await generate_preferences(context, wanted)
    found: dict[str, Movement] = {}
    compared = [component for component in preferences if component in named]
    for component in compared:
        artifact = earlier.open_artifact("preferences", named[component])
        if artifact is None:
            raise ArtifactCorrupt(f"{earlier.uri} has no preferences/{named[component]}.", remedy="Restore it.")
        then = read_pairs(artifact, component)
        now = read_pairs(context.required("preferences", preferences[component]), component)
        found[component] = await in_short_thread(partial(_accuracy_movement, context, model, then, now, alpha / len(compared)))
    return preferences, found


def _reference_pairs(context: StageContext, request: DriftRequest) -> tuple[RunWorkspace, Mapping[str, str]]:
    """The run of the first check and its preference artifacts, where they were judged by the same reward functions."""
    run = RunWorkspace(context.run.store, request.reference_run or request.run)
    artifact = run.open_artifact("validations", request.reference) if request.reference is not None else None
    decision: Mapping[str, Any] = drift_decision(artifact) if artifact is not None else {}
    return run, decision["preferences"] if decision.get("lrf") == request.lrf else {}


def _held_out_examples(context: StageContext, request: DriftRequest) -> tuple[str, ...]:
    """Training examples on which the reward functions were not trained, by the rule of the run that trained them; the same each time."""
    spec = RunWorkspace(context.run.store, request.run).read_spec()
    if spec is None:
        raise ArtifactCorrupt(f"run {request.run} has no spec.json.", remedy="Restore it, or promote another run's configuration.")
    settings = spec["settings"]
    ids = [example.id for example in context.split.train]
    held_out = sorted(split_by_example(ids, settings["preferences"]["held_out"], settings["seed"])[1])
    random.Random(derive_seed("drift-examples", settings["seed"])).shuffle(held_out)
    return tuple(held_out[: context.settings.drift.preference_examples])


def _accuracy_movement(
    context: StageContext, model: Any, recorded: Sequence[RewardPair], fresh: Sequence[RewardPair], alpha: float
) -> Movement:
    then, now = model.accuracy_by_example(recorded), model.accuracy_by_example(fresh)
    pairs = [(then[name], now[name]) for name in sorted(then.keys() & now.keys())]
    if not pairs:
        return Movement("same", 0, None, None, None, None, None, 0, 0)
    gate = PairedSequentialGate(items=len(pairs), first_look=len(pairs))  # all of it is measured already: one look
    seed = derive_seed("drift-alignment", context.settings.seed, context.run.run_id)
    return movement(gate, pairs, alpha=alpha, available=len(pairs), metric_range=(0.0, 1.0), seed=seed, both=False)


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _reason(
    context: StageContext,
    moved: Mapping[str, Movement],
    fallen: Mapping[str, Movement],
    found: Mapping[str, Movement],
    now: Sequence[float],
) -> str:
    metric = getattr(context.system.metric, "__name__", "metric")

    def words(part: str, item: Movement) -> str:
        when = "in the sealed test" if part == "sealed test" else "then"
        return f"{metric} {item.then:.3f} {when}, {item.now:.3f} now on {item.n_pairs} items"

    if moved:
        return "; ".join(f"the score {item.kind}: {words(part, item)}" for part, item in moved.items())
    if fallen:
        parts = [f"{name} {item.then:.2f} then, {item.now:.2f} now on {item.n_pairs} examples" for name, item in fallen.items()]
        return f"reward functions order outputs less well: {'; '.join(parts)}"
    compared = "; ".join(words(part, item) for part, item in found.items())
    if "items" in found:
        return f"nothing moved: {compared}"
    recorded = f"{metric} {_mean(now) or 0.0:.3f} on {len(now)} items is what later checks compare with"
    return f"{f'nothing moved: {compared}; ' if compared else 'nothing to compare with yet: '}{recorded}"
