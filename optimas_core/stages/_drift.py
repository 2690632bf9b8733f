"""Stage drift-check: does the promoted configuration still score as it did, and do its reward functions still order outputs rightly?

Measured anew, in the run that would optimize again: recorded calls of other runs do not answer there, so a model that changed behind its
name is seen. Validation items only; the recorded scores of the earlier sealed test are compared with, its items are not run again.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

from optimas_core.acceptance import Movement, PairedSequentialGate, compared_with, gate_for, movement
from optimas_core.artifacts import RunWorkspace, current_version, read_table
from optimas_core.canonical import derive_seed
from optimas_core.errors import ArtifactCorrupt, TemporaryError
from optimas_core.rewards import RewardPair, split_by_example
from optimas_core.rollouts import Rollout, Task, first_error, in_short_thread
from optimas_core.stages._committed import DriftShape, committed
from optimas_core.stages._context import StageContext, json_file
from optimas_core.stages._generate_preferences import PreferenceRequest, generate_preferences
from optimas_core.stages._lrf import held_out_ids
from optimas_core.stages._preference_tables import read_pairs, table_bytes
from optimas_core.stages._validate_accept import DECISION_FILE, VALIDATIONS_FILE, validation_order

# Apart from validation's own repeats: a score that was low enough to start a run must not be what its challengers are compared with.
_DRIFT_REPEAT = 3_000_000


@dataclass(frozen=True, slots=True)
class DriftRequest:
    """Compare with what run `run` of the same workspace recorded about `configuration`.

    `incumbent`, `challenger`: its validations artifacts in which the configuration was that arm and its scores were not selected for
    being high. `pairs`: its preference artifacts, for the alignment of the reward functions `lrf` (None: there are none).
    """

    run: str
    configuration: str
    lrf: str | None
    incumbent: tuple[str, ...]
    challenger: tuple[str, ...]
    pairs: tuple[str, ...]


async def drift_check(context: StageContext, request: DriftRequest) -> str:
    """Commit both scores of every item that was compared, and the decision; returns the artifact's name.

    Raises:
        TemporaryError: too much could not be measured to say anything; nothing is committed.
    """
    name = context.name("drift-check", asdict(request))
    if context.existing("validations", name) is not None:
        return name
    earlier = RunWorkspace(context.run.store, request.run)
    settings = context.settings.drift
    judged = request.lrf is not None and settings.preference_examples > 0
    level = settings.alpha / 2 if judged else settings.alpha
    then = _recorded(earlier, request)
    score, rows = await _score_movement(context, request.configuration, then, level)
    alignment: dict[str, Movement] = {}
    if judged and score is not None and score.kind == "same":
        alignment = await _alignment_movements(context, request, earlier, settings.alpha - level)
    fallen = [component for component, found in alignment.items() if found.kind == "fell"]
    summary: dict[str, Any] = {
        "moved": score is None or score.kind != "same" or bool(fallen),
        "reason": _reason(context, score, {component: alignment[component] for component in fallen}),
        "run": request.run,
        "configuration": request.configuration,
        "lrf": request.lrf,
        "alpha": settings.alpha,
        "score": None if score is None else asdict(score),
        "alignment": {component: asdict(found) for component, found in alignment.items()},
    }
    files = {VALIDATIONS_FILE: table_bytes("validations", rows, context.run.run_id, context.created_at), DECISION_FILE: json_file(summary)}
    context.commit("validations", name, files, {"configuration": request.configuration}, {"validations": current_version("validations")})
    return name


def read_drift(context: StageContext, name: str) -> dict[str, Any]:
    """What the check decided. Raises: ArtifactCorrupt: damaged."""
    decision: dict[str, Any] = committed(context.required("validations", name), DECISION_FILE, DriftShape)
    return decision


def _recorded(run: RunWorkspace, request: DriftRequest) -> dict[str, float]:
    """Example id -> score then; the first artifact that has an item counts."""
    found: dict[str, float] = {}
    for arm, names in (("incumbent", request.incumbent), ("challenger", request.challenger)):
        for name in names:
            for row in _rows(run, "validations", name):
                if row["arm"] == arm and row["reward"] is not None:
                    found.setdefault(row["example_id"], row["reward"])
    return found


def _rows(run: RunWorkspace, kind: str, name: str) -> list[dict[str, Any]]:
    artifact = run.open_artifact(kind, name)
    if artifact is None:
        raise ArtifactCorrupt(f"{run.uri} has no {kind}/{name}.", remedy="Restore it, or promote another run's configuration.")
    return [dict(row) for row in read_table("validations", artifact.read(VALIDATIONS_FILE), file=f"{artifact.uri}/{VALIDATIONS_FILE}")]


async def _score_movement(
    context: StageContext, configuration: str, then: Mapping[str, float], alpha: float
) -> tuple[Movement | None, list[dict[str, Any]]]:
    """The test, and the rows of its table; None where nothing was recorded that could be compared with."""
    seed = derive_seed("drift", context.settings.seed, context.run.run_id)
    items = validation_order(context)
    known = {example.id: example for example in items}
    pairing = compared_with(then, [example.id for example in items], seed)
    if not pairing:
        return None, []
    gate = _gate(context)
    values = context.configuration(configuration)
    wanted = gate.first_items(len(pairing))
    measured: list[Rollout] = []
    while True:
        tasks = [Task(known[item], values, repeat=_DRIFT_REPEAT) for item, _ in pairing[len(measured) : wanted]]
        told = context.tell("drift check: measuring the promoted configuration")
        measured += await context.engine.run(tasks, stage="drift-check", iteration=0, on_done=told)
        pairs = [(then[other], rollout.reward) for (_, other), rollout in zip(pairing, measured, strict=False)]
        found = movement(gate, pairs, alpha=alpha, available=len(pairing), metric_range=context.system.metric_range, seed=seed)
        if found.kind != "continue":
            break
        wanted = found.next_items
    if found.kind == "indecisive":
        raise TemporaryError(
            f"the promoted configuration could not be measured: {found.n_missing} of {len(pairs)} items are missing"
            f" ({first_error(measured)}).",
            remedy="Check again when that is mended; nothing was decided.",
        )
    return found, [*_fresh_rows(measured), *_recorded_rows(then, [other for _, other in pairing[: len(measured)]])]


def _gate(context: StageContext) -> PairedSequentialGate:
    gate = gate_for(context.settings.acceptance)
    return gate if isinstance(gate, PairedSequentialGate) else PairedSequentialGate()


def _fresh_rows(measured: Sequence[Rollout]) -> list[dict[str, Any]]:
    """Now stands as the challenger, then as the incumbent."""
    return [_row(item.example_id, "challenger", item.reward, item.status) for item in measured]


def _recorded_rows(then: Mapping[str, float], ids: Sequence[str]) -> list[dict[str, Any]]:
    return [_row(name, "incumbent", then[name], "ok") for name in ids]


def _row(example_id: str, arm: Literal["incumbent", "challenger"], reward: float | None, status: str) -> dict[str, Any]:
    return {"example_id": example_id, "arm": arm, "repeat": 0, "reward": reward, "status": status}


async def _alignment_movements(context: StageContext, request: DriftRequest, earlier: RunWorkspace, alpha: float) -> dict[str, Movement]:
    """Whether pairwise accuracy on held-out examples fell, for every component that has recorded pairs; `alpha` is shared among them."""
    model = context.reward_model(str(request.lrf))
    recorded = [pair for name in request.pairs for pair in _earlier_pairs(earlier, name)]
    ids = {pair.example_id for pair in recorded} | {example.id for example in context.split.train}
    held_out = split_by_example(ids, context.settings.preferences.held_out, context.settings.seed)[1]
    components = [
        name
        for name in context.system.optimizable
        if name in model.heads and any(pair.component == name and pair.example_id in held_out for pair in recorded)
    ]
    examples = sorted(held_out_ids(context))
    random.Random(derive_seed("drift-examples", context.settings.seed)).shuffle(examples)
    examples = examples[: context.settings.drift.preference_examples]
    found: dict[str, Movement] = {}
    for component in components:
        preferences = await generate_preferences(context, PreferenceRequest(0, (component,), request.configuration, tuple(examples)))
        fresh = read_pairs(context.required("preferences", preferences), component)
        own = [pair for pair in recorded if pair.component == component and pair.example_id in held_out]
        found[component] = await in_short_thread(partial(_accuracy_movement, context, model, own, fresh, alpha / len(components)))
    return found


def _earlier_pairs(run: RunWorkspace, name: str) -> list[RewardPair]:
    artifact = run.open_artifact("preferences", name)
    if artifact is None:
        raise ArtifactCorrupt(f"{run.uri} has no preferences/{name}.", remedy="Restore it, or promote another run's configuration.")
    return read_pairs(artifact)


def _accuracy_movement(
    context: StageContext, model: Any, recorded: Sequence[RewardPair], fresh: Sequence[RewardPair], alpha: float
) -> Movement:
    then, now = model.accuracy_by_example(recorded), model.accuracy_by_example(fresh)
    seed = derive_seed("drift", context.settings.seed, context.run.run_id)
    pairing = compared_with(then, sorted(now, key=lambda name: derive_seed("drift-order", seed, name)), seed)
    if not pairing:
        return Movement("same", 0, None, None, None, None, None, 0, 0)
    pairs = [(then[other], now[item]) for item, other in pairing]
    gate = PairedSequentialGate(items=len(pairs), first_look=len(pairs))  # all of it is measured already: one look
    return movement(gate, pairs, alpha=alpha, available=len(pairs), metric_range=(0.0, 1.0), seed=seed, both=False)


def _reason(context: StageContext, score: Movement | None, fallen: Mapping[str, Movement]) -> str:
    if score is None:
        return "no scores of the promoted configuration are recorded that these could be compared with"
    metric = getattr(context.system.metric, "__name__", "metric")
    words = f"{metric} {score.then:.3f} then, {score.now:.3f} now on {score.n_pairs} items"
    if score.kind != "same":
        return f"the score {score.kind}: {words}"
    if fallen:
        parts = [f"{name} {found.then:.2f} then, {found.now:.2f} now on {found.n_pairs} examples" for name, found in fallen.items()]
        return f"reward functions order outputs less well: {'; '.join(parts)}"
    return f"nothing moved: {words}"
