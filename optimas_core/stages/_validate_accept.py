"""Stage validate-accept: incumbent and challenger on the same validation items, and the gate's verdict (Algorithm 1, 15-20)."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from optimas_core._redaction import without_keys
from optimas_core.acceptance import gate_for, mean_interval, paired_difference_interval
from optimas_core.artifacts import current_version
from optimas_core.canonical import canonical_json, derive_seed
from optimas_core.errors import TemporaryError
from optimas_core.rollouts import Rollout, Task, first_error
from optimas_core.stages._committed import SealedTestShape, VerdictShape, committed
from optimas_core.stages._context import StageContext, json_file
from optimas_core.stages._preference_tables import table_bytes
from optimas_core.system import Configuration, Example

VALIDATIONS_FILE = "validations.parquet"
DECISION_FILE = "decision.json"

# Repeats of validation and test are apart from those of training, so that no stochastic result is shared between them.
_VALIDATION_REPEAT = 1_000_000
_TEST_REPEAT = 2_000_000

# Constant answers tried for the majority baseline: each costs one evaluation of the metric for every test item.
_MAJORITY_TRIED = 20
_ERROR_CHARS = 300


@dataclass(frozen=True, slots=True)
class ValidateRequest:
    """Judge `challenger` against `incumbent` at level `alpha`. `accepted` counts earlier acceptances: after one, stochastic systems
    draw the incumbent's scores afresh, because the old ones were selected for being high (docs/design/0002-gate.md)."""

    iteration: int
    incumbent: str
    challenger: str
    alpha: float
    accepted: int


@dataclass(frozen=True, slots=True)
class TestRequest:
    """Read the sealed test split, once, with both arms: the run's first and last configuration."""

    __test__ = False

    before: str
    after: str


async def validate_accept(context: StageContext, request: ValidateRequest) -> str:
    """Commit validations.parquet and decision.json; returns the artifact's name. The verdict is a pure function of the scores."""
    name = context.name("validate-accept", asdict(request))
    if context.existing("validations", name) is not None:
        return name
    items = validation_order(context)
    gate = gate_for(context.settings.acceptance)
    wanted = gate.first_items(len(items))
    arms = {"incumbent": context.configuration(request.incumbent), "challenger": context.configuration(request.challenger)}
    measured: dict[str, list[Rollout]] = {arm: [] for arm in arms}
    seed = derive_seed("gate", context.settings.seed, request.iteration)
    while True:
        for arm, configuration in arms.items():
            new = items[len(measured[arm]) : wanted]
            measured[arm] += await _measure(
                context, new, configuration, _VALIDATION_REPEAT + request.accepted, "validate-accept", request.iteration, arm
            )
        pairs = [(left.reward, right.reward) for left, right in zip(measured["incumbent"], measured["challenger"], strict=True)]
        decision = gate.decide(pairs, alpha=request.alpha, available=len(items), metric_range=context.system.metric_range, seed=seed)
        if decision.kind != "continue":
            break
        wanted = decision.next_items
    means = {f"{arm}_mean": _mean([item.reward for item in rollouts]) for arm, rollouts in measured.items()}
    summary = asdict(decision) | means | {"alpha": request.alpha, "items": len(pairs)}
    context.commit(
        "validations",
        name,
        {VALIDATIONS_FILE: _table(context, measured), DECISION_FILE: json_file(summary)},
        {"incumbent": request.incumbent, "challenger": request.challenger},
        {"validations": current_version("validations")},
    )
    return name


async def sealed_test(context: StageContext, request: TestRequest) -> str:
    """Commit the sealed test's scores of both arms with intervals; returns the artifact's name.

    Raises:
        TemporaryError: not one item could be measured; nothing is committed, so a resume reads the test again.
    """
    name = context.name("sealed-test", asdict(request))
    if context.existing("validations", name) is not None:
        return name
    items = list(context.split.test)
    configurations = {"incumbent": request.before, "challenger": request.after}
    measured = {
        arm: await _measure(
            context, items, context.configuration(digest), _TEST_REPEAT, "sealed-test", 0, "before" if arm == "incumbent" else "after"
        )
        for arm, digest in configurations.items()
    }
    if all(item.reward is None for rollouts in measured.values() for item in rollouts):
        raise TemporaryError(
            f"no item of the sealed test could be measured: {first_error(measured['incumbent'])}",
            remedy="Run `optimas resume` when that is mended: it reads the sealed test again.",
        )
    low, high = context.system.metric_range
    # A component's exception may quote a key: these texts stay in the workspace and are shown in the report.
    errors = {without_keys(item.error)[:_ERROR_CHARS] for rollouts in measured.values() for item in rollouts if item.error}
    summary: dict[str, Any] = {"confidence": 0.95, "errors": sorted(errors)[:5]}
    for arm, rollouts in measured.items():
        rewards = [item.reward for item in rollouts if item.reward is not None]
        interval = mean_interval(rewards, metric_range=(low, high)) if rewards else None
        summary[arm] = {"mean": _mean(rewards), "ci": [interval.low, interval.high] if interval else None, "n": len(rewards)}
    differences = [
        after.reward - before.reward
        for before, after in zip(measured["incumbent"], measured["challenger"], strict=True)
        if before.reward is not None and after.reward is not None
    ]
    spread = paired_difference_interval(differences, width=high - low) if differences else None
    summary["difference"] = {"mean": _mean(differences), "ci": [spread.low, spread.high] if spread else None, "n": len(differences)}
    summary |= _baselines(context, items, measured["incumbent"])
    context.commit(
        "validations",
        name,
        {VALIDATIONS_FILE: _table(context, measured), DECISION_FILE: json_file(summary)},
        {"incumbent": request.before, "challenger": request.after},
        {"validations": current_version("validations")},
    )
    return name


def _baselines(context: StageContext, items: list[Example], rollouts: list[Rollout]) -> dict[str, float | None]:
    """What the test split gives away for nothing; no call is made.

    `chance`: every item gets the output that the unoptimized system gave to another item (a seeded rotation). `majority`: the best of its
    most frequent outputs, given to every item.
    """
    answered = [
        (example, item.trajectory.outputs(context.system.outputs))
        for example, item in zip(items, rollouts, strict=True)
        if item.status == "ok" and item.trajectory is not None
    ]
    if len(answered) < 2:
        return {"chance": None, "majority": None}
    outputs = [output for _, output in answered]
    shift = random.Random(derive_seed("chance", context.settings.seed)).randrange(1, len(outputs))
    chance = [context.system.score(example.fields, outputs[(index + shift) % len(outputs)]) for index, (example, _) in enumerate(answered)]
    counts = Counter(canonical_json(output) for output in outputs)
    frequent = [json.loads(text) for text, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:_MAJORITY_TRIED]]
    majority = max(_mean([context.system.score(item.fields, output) for item in items]) or 0.0 for output in frequent)
    return {"chance": _mean(chance), "majority": majority}


def read_decision(context: StageContext, name: str) -> dict[str, Any]:
    """A gate's verdict or the sealed test's result. Raises: ArtifactCorrupt: damaged."""
    decision: dict[str, Any] = committed(context.required("validations", name), DECISION_FILE, VerdictShape | SealedTestShape)
    return decision


def validation_order(context: StageContext) -> list[Example]:
    """The validation items in the run's own seeded order, the same in every iteration."""
    items = sorted(context.split.validation, key=lambda example: example.id)
    random.Random(derive_seed("validation-order", context.settings.seed)).shuffle(items)
    return items


async def _measure(
    context: StageContext, items: list[Example], configuration: Configuration, repeat: int, stage: str, iteration: int, arm: str
) -> list[Rollout]:
    tasks = [Task(example, configuration, repeat=repeat) for example in items]
    split = "sealed test" if stage == "sealed-test" else "validation"
    return await context.engine.run(tasks, stage=stage, iteration=iteration, on_done=context.tell(f"{split}: measuring the {arm}"))


def _table(context: StageContext, measured: dict[str, list[Rollout]]) -> bytes:
    rows = [
        {"example_id": item.example_id, "arm": arm, "repeat": 0, "reward": item.reward, "status": item.status}
        for arm in sorted(measured)
        for item in measured[arm]
    ]
    return table_bytes("validations", rows, context.run.run_id, context.created_at)


def _mean(values: list[Any]) -> float | None:
    numbers = [value for value in values if value is not None]
    return math.fsum(numbers) / len(numbers) if numbers else None
