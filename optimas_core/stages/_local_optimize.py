"""Stage local-optimize: rank this iteration's candidates by local reward and choose one (paper, section 4.3, Eq. 5, Appendix F).

Where the component's LRF is no better than chance on held-out examples it does not steer: the candidates are then compared by
measured rollouts, in a race, and the result says so.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from optimas_core.canonical import canonical_json, derive_seed
from optimas_core.optimizers import Attempt, Proposal, choice_probabilities, draw_better
from optimas_core.preferences import INCUMBENT
from optimas_core.rewards import AlignmentResult, better_than_chance, decision_alignment
from optimas_core.rollouts import in_short_thread
from optimas_core.stages._committed import RankingShape, committed
from optimas_core.stages._context import StageContext, json_file
from optimas_core.stages._generate_preferences import RANKING_FILE, read_dropped, read_proposals
from optimas_core.stages._inputs import frozen_inputs
from optimas_core.stages._lrf import held_out_ids, read_metrics
from optimas_core.stages._preference_tables import read_measured
from optimas_core.stages._proposing import propose
from optimas_core.stages._race import race
from optimas_core.system import Configuration, PromptSpace

STAGE = "local-optimize"


@dataclass(frozen=True, slots=True)
class OptimizeRequest:
    """Rank the incumbent and `proposals` of one component's knob on the search inputs `examples`.

    `rejected` are configurations that the gate turned down against this incumbent: judging one again would only spend level.
    """

    iteration: int
    component: str
    knob: str
    configuration: str
    lrf: str | None
    mini_batch: str
    proposals: str
    preferences: tuple[str, ...]
    examples: tuple[str, ...]
    rejected: tuple[str, ...] = ()


@dataclass(slots=True)
class _Candidate:
    """One candidate and what is known of it; shape of `scores`: search input id -> local reward."""

    proposal: Proposal | None
    label: str
    scores: dict[str, float]
    measured: dict[str, float]

    @property
    def local(self) -> float | None:
        return math.fsum(self.scores.values()) / len(self.scores) if self.scores else None


async def local_optimize(context: StageContext, request: OptimizeRequest) -> str:
    """Commit ranking.json: every candidate with its local and measured reward, the choice and why. Returns the artifact's name."""
    name = context.name(STAGE, asdict(request))
    if context.existing("proposals", name) is not None:
        return name
    ranking = await _rank(context, request)
    context.commit("proposals", name, {RANKING_FILE: json_file(ranking)}, {"proposals": request.proposals, "lrf": request.lrf or ""})
    return name


def read_ranking(context: StageContext, name: str) -> dict[str, Any]:
    """Raises: ArtifactCorrupt: damaged."""
    ranking: dict[str, Any] = committed(context.required("proposals", name), RANKING_FILE, RankingShape)
    return ranking


async def _rank(context: StageContext, request: OptimizeRequest) -> dict[str, Any]:
    candidates = [_Candidate(None, INCUMBENT, {}, {})]
    incumbent = context.configuration(request.configuration)
    candidates += [
        _Candidate(item, item.label, {}, {})
        for item in read_proposals(context, request.proposals)
        if incumbent.replace(request.component, item.values).digest not in request.rejected
    ]
    shown = {source for item in candidates if item.proposal for source in item.proposal.sources}
    request = replace(request, examples=tuple(name for name in request.examples if name not in shown))
    _add_measured(context, request, candidates, shown)
    alignment, trusted, why = _trust(context, request)
    configuration = context.configuration(request.configuration)
    dropped = read_dropped(context, request.proposals)
    if len(candidates) == 1:
        chosen, reason, steered = 0, "nothing was proposed", "lrf"
    elif trusted and request.lrf:
        chosen, reason = await _by_local_reward(context, request, configuration, candidates, dropped)
        steered = "lrf"
    else:
        chosen, reason = await _by_measurement(context, request, configuration, candidates)
        steered = "measured"
    probabilities = _probabilities(candidates) if steered == "lrf" else [None] * len(candidates)
    values = _chosen_values(context, request, candidates, chosen, steered)
    return {
        "component": request.component,
        "knob": request.knob,
        "kind": "prompt" if _is_prompt(context, request) else "discrete",
        "mode": "global" if _is_prompt(context, request) else context.settings.optimizers.selection_mode,
        "steered_by": steered,
        "steered_reason": why,
        "alignment": asdict(alignment) | {"trusted": trusted},
        "decision": _decision(context, request, candidates),
        "candidates": [
            {
                "label": item.label,
                "proposer": item.proposal.proposer if item.proposal else INCUMBENT,
                "summary": item.proposal.summary if item.proposal else "as it is",
                "values": dict(item.proposal.values) if item.proposal else {},
                "local_reward": item.local,
                "local_n": len(item.scores),
                "measured_reward": _mean(item.measured.values()),
                "measured_n": len(item.measured),
                "probability": probability,
                "chosen": index == chosen,
            }
            for index, (item, probability) in enumerate(zip(candidates, probabilities, strict=True))
        ],
        "dropped": dropped,
        "chosen": candidates[chosen].label,
        "values": values,
        "reason": reason,
    }


def _trust(context: StageContext, request: OptimizeRequest) -> tuple[AlignmentResult, bool, str]:
    """The alignment gate: pairwise accuracy on held-out examples must exclude chance."""
    nothing = AlignmentResult(0.5, 0.0, 1.0, 0, 0)
    if request.lrf is None:
        return nothing, False, "the run uses no Local Reward Function"
    data = read_metrics(context, request.lrf)["alignment"].get(request.component)
    result = AlignmentResult(**data) if data else nothing
    share = context.settings.lrf.confidence
    text = f"accuracy {result.accuracy:.2f} on {result.n_pairs} held-out pairs of {result.n_examples} examples"
    interval = f"{share:.0%} interval {result.low:.2f} to {result.high:.2f}"
    if better_than_chance(result):
        return result, True, f"the LRF is better than chance: {text}, {interval}"
    return result, False, f"the LRF is not better than chance ({text}, {interval}), so candidates were compared by measured rollouts"


def _add_measured(context: StageContext, request: OptimizeRequest, candidates: Sequence[_Candidate], shown: set[str]) -> None:
    """What the mini-batch measured of each candidate; examples shown in a candidate's demonstrations count for none."""
    by_label = {item.label: item for item in candidates}
    for measured in read_measured(context.required("preferences", request.mini_batch), request.component):
        for label in measured.labels:
            if label in by_label and measured.example_id not in shown:
                by_label[label].measured[measured.example_id] = measured.reward


async def _by_local_reward(
    context: StageContext,
    request: OptimizeRequest,
    configuration: Configuration,
    candidates: list[_Candidate],
    dropped: list[dict[str, Any]],
) -> tuple[int, str]:
    """Score all candidates on the search inputs; further local steps propose again, knowing the scores so far. What the leak guard
    catches then is added to `dropped`."""
    inputs = await frozen_inputs(context, request.component, request.examples, configuration, stage=STAGE, iteration=request.iteration)
    await _score(context, request, configuration, candidates, inputs)
    _keep_common_inputs(candidates)
    for step in range(1, context.settings.optimizers.steps if _is_prompt(context, request) else 1):
        best = max(candidates, key=lambda item: item.local if item.local is not None else float("-inf"))
        start = configuration.replace(request.component, best.proposal.values) if best.proposal else configuration
        attempts = [Attempt(item.proposal.values, item.local) for item in candidates if item.proposal]
        refined = await propose(
            context,
            component=request.component,
            knob=request.knob,
            configuration=start,
            preferences=[context.required("preferences", item) for item in request.preferences],
            iteration=request.iteration,
            attempts=attempts,
            step=step,
        )
        caught = {item["label"] for item in dropped}
        dropped += [item.to_json() for item in refined.dropped if item.proposal.label not in caught]
        fresh = {item.label: item for item in refined.kept if not set(item.sources) & set(inputs)}
        known = {item.label for item in candidates}
        new = [_Candidate(item, label, {}, {}) for label, item in fresh.items() if label not in known]
        await _score(context, request, configuration, new, inputs)
        candidates += new
        _keep_common_inputs(candidates)
    incumbent = candidates[0].local
    if incumbent is None:
        return 0, "the incumbent could not be scored on any search input"
    rewards = [item.local if item.local is not None else float("-inf") for item in candidates]
    if _is_prompt(context, request):
        chosen = max(range(len(candidates)), key=lambda index: (rewards[index], -index))
    else:
        rng = random.Random(derive_seed("choice", context.settings.seed, request.iteration))
        finite = [reward if reward != float("-inf") else min(r for r in rewards if r != float("-inf")) for reward in rewards]
        chosen = draw_better(finite, 0, rng)
    if chosen == 0:
        return 0, f"no candidate beat the incumbent's mean local reward {incumbent:.3f}"
    return chosen, f"mean local reward {rewards[chosen]:.3f} against the incumbent's {incumbent:.3f} on {len(candidates[0].scores)} inputs"


async def _score(
    context: StageContext,
    request: OptimizeRequest,
    configuration: Configuration,
    candidates: Sequence[_Candidate],
    inputs: Mapping[str, Mapping[str, Any]],
) -> None:
    """r_k(x_k, C_k(x_k; v)) for each candidate and input: one execution of C_k alone (Eq. 5). None where it gave no output."""
    item = context.system.components[request.component]
    knobs = {**item.defaults, **configuration.of(request.component)}
    calls = [
        (request.component, value, {**knobs, **(candidate.proposal.values if candidate.proposal else {})}, 0)
        for candidate in candidates
        for value in inputs.values()
    ]
    outputs = await context.engine.call_many(
        calls, stage=STAGE, iteration=request.iteration, on_done=context.tell(f"{request.component}: trying {len(candidates)} candidates")
    )
    places = [(candidate, name) for candidate in candidates for name in inputs]
    given = [(place, output) for place, output in zip(places, outputs, strict=True) if output is not None]
    if not given:
        return
    items = [(inputs[name], output) for (_, name), output in given]
    context.progress(f"{request.component}: scoring {len(items)} outputs", 0, 1)
    scores = await in_short_thread(lambda: context.reward_model(request.lrf or "").score(request.component, items))
    for ((candidate, name), _), score in zip(given, scores, strict=True):
        candidate.scores[name] = float(score)


def _keep_common_inputs(candidates: Sequence[_Candidate]) -> None:
    """r_k is known only up to a function of x_k: keep the inputs on which every candidate gave an output. One that gave none on
    more than half of the incumbent's inputs drops out, instead of leaving nothing to compare the others on."""
    base = candidates[0].scores
    for item in candidates[1:]:
        if 2 * len(base.keys() & item.scores.keys()) < len(base):
            item.scores = {}
    present = [item for item in candidates if item.scores]
    common = set.intersection(*(set(item.scores) for item in present)) if present else set()
    for item in present:
        item.scores = {name: score for name, score in item.scores.items() if name in common}


async def _by_measurement(
    context: StageContext, request: OptimizeRequest, configuration: Configuration, candidates: list[_Candidate]
) -> tuple[int, str]:
    """Race the candidates on measured rollouts: the mini-batch counts, then the search inputs, half of the field each round."""
    changes = [item.proposal.values if item.proposal else {} for item in candidates]
    chosen = await race(
        context,
        component=request.component,
        configuration=configuration,
        changes=changes,
        measured=[item.measured for item in candidates],
        examples=request.examples,
        iteration=request.iteration,
    )
    base, best = candidates[0].measured, candidates[chosen].measured
    if chosen == 0:
        return 0, f"no candidate beat the incumbent's measured mean {_shown(_mean(base.values()))}"
    shared = base.keys() & best.keys()
    means = [_shown(_mean(rewards[name] for name in sorted(shared))) for rewards in (best, base)]
    return chosen, f"measured mean {means[0]} against the incumbent's {means[1]} on {len(shared)} inputs"


def _chosen_values(
    context: StageContext, request: OptimizeRequest, candidates: Sequence[_Candidate], chosen: int, steered: str
) -> dict[str, Any] | None:
    """Knob values of the challenger; None where the incumbent stays."""
    discrete = not _is_prompt(context, request)
    if discrete and steered == "lrf" and context.settings.optimizers.selection_mode == "per_input" and len(candidates) > 1:
        item = context.system.components[request.component]
        knobs = {**item.defaults, **context.configuration(request.configuration).of(request.component)}
        now = knobs[request.knob]
        values = list(now["per_input"]) if isinstance(now, Mapping) else [now]
        if isinstance(now, Mapping) and all(c.proposal is None or c.proposal.values[request.knob] in values for c in candidates):
            return None  # it chooses among all of these already
        others = [c.proposal.values[request.knob] for c in candidates if c.proposal]
        known = {canonical_json(value) for value in values}
        values += [value for value in others if canonical_json(value) not in known]
        return {request.knob: {"per_input": values, "lrf": request.lrf}}
    proposal = candidates[chosen].proposal
    return dict(proposal.values) if proposal else None


def _decision(context: StageContext, request: OptimizeRequest, candidates: Sequence[_Candidate]) -> dict[str, Any]:
    """Decision alignment: do local means choose as measured means do? On held-out examples where both are known."""
    held_out = held_out_ids(context)
    local = {item.label: {key: value for key, value in item.scores.items() if key in held_out} for item in candidates}
    measured = {item.label: {key: value for key, value in item.measured.items() if key in held_out} for item in candidates}
    shared = [item.label for item in candidates if set(local[item.label]) & set(measured[item.label])]
    common = set.intersection(*(set(local[label]) & set(measured[label]) for label in shared)) if shared else set()
    if len(shared) < 2 or not common:
        return {"spearman": None, "regret": None, "candidates": len(shared), "examples": 0}
    result = decision_alignment(
        {label: {key: local[label][key] for key in common} for label in shared},
        {label: {key: measured[label][key] for key in common} for label in shared},
    )
    return asdict(result)


def _probabilities(candidates: Sequence[_Candidate]) -> list[float | None]:
    """p(c) proportional to exp(mean local reward), None for a candidate that was not scored."""
    scored = [item.local for item in candidates if item.local is not None]
    found = iter(choice_probabilities(scored) if scored else [])
    return [next(found) if item.local is not None else None for item in candidates]


def _is_prompt(context: StageContext, request: OptimizeRequest) -> bool:
    return isinstance(context.system.components[request.component].space[request.knob], PromptSpace)


def _mean(values: Any) -> float | None:
    numbers = list(values)
    return math.fsum(numbers) / len(numbers) if numbers else None


def _shown(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"
