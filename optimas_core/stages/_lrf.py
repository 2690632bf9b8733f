"""Stages train-lrf and adapt-lrf: the Local Reward Functions from preference data (paper, Eq. 2, 4 and section 4.2)."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from optimas_core.canonical import derive_seed
from optimas_core.rewards import RewardModel, RewardPair, split_by_example
from optimas_core.rollouts import Place, in_short_thread
from optimas_core.stages._committed import MetricsShape, committed
from optimas_core.stages._context import StageContext, json_file
from optimas_core.stages._preference_tables import read_pairs

METRICS_FILE = "metrics.json"


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """Fit every component's LRF on the pairs of these artifacts."""

    preferences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AdaptRequest:
    """Adapt one component's LRF on `mini_batch`; `replay` are earlier artifacts, newest first, of any component."""

    iteration: int
    component: str
    lrf: str
    mini_batch: str
    replay: tuple[str, ...]


def held_out_ids(context: StageContext) -> frozenset[str]:
    """Training-split examples whose pairs are never trained on: one fixed set for the whole run."""
    ids = [example.id for example in context.split.train]
    return split_by_example(ids, context.settings.preferences.held_out, context.settings.seed)[1]


async def train_lrf(context: StageContext, request: TrainRequest) -> str:
    """Commit the first LRFs and their alignment on held-out examples; returns the artifact's name."""
    name = context.name("train-lrf", asdict(request))
    if context.existing("lrf", name) is not None:
        return name
    pairs = [pair for item in request.preferences for pair in read_pairs(context.required("preferences", item))]
    held_out = held_out_ids(context)
    training = [pair for pair in pairs if pair.example_id not in held_out]
    judged = [pair for pair in pairs if pair.example_id in held_out]
    settings = context.settings
    started = time.monotonic()
    context.progress("training the reward functions", 0, 1)

    def train() -> dict[str, bytes]:
        model, started_from = _first_model(context)
        metrics: dict[str, Any] = {"pairs": len(pairs), "held_out_pairs": len(judged), "fit": None, "started_from": started_from}
        if training:
            report = model.fit(
                training,
                settings.lrf,
                judged,
                seed=derive_seed("train-lrf", settings.seed),
                progress=lambda done, total, loss: context.progress("training the reward functions", done, total),
                ranks=context.ranks,
            )
            metrics["fit"] = _without_clock(report.to_json())
        aligned = model.alignment(judged, confidence=settings.lrf.confidence)
        metrics["alignment"] = {key: asdict(value) for key, value in aligned.items()}
        return {**model.to_files(), METRICS_FILE: json_file(metrics)}

    files = await in_short_thread(train)
    _record(context, Place("train-lrf", 0, ""), started)
    context.commit("lrf", name, files, {"preferences": ",".join(request.preferences)})
    context.forget_reward_models()  # a warm start trained the loaded one further
    return name


def _first_model(context: StageContext) -> tuple[RewardModel, str | None]:
    """The reward functions that training starts with, and their name: those of a warm start, else new ones."""
    settings, start = context.settings, context.settings.warm_start
    if start is not None and start.lrf is not None:
        return context.reward_model(start.lrf), start.lrf
    return RewardModel.create(settings.lrf, context.system.optimizable, settings.seed), None


def _record(context: StageContext, place: Place, started_s: float) -> None:
    """Seconds of fitting in the ledger."""
    import torch

    context.budget.record_compute(place, time.monotonic() - started_s, gpus=context.ranks.size if torch.cuda.is_available() else 0)


async def adapt_lrf(context: StageContext, request: AdaptRequest) -> str:
    """Commit the adapted LRFs (or the same ones, where the adaptation was refused) with alignment and drift."""
    name = context.name("adapt-lrf", asdict(request))
    if context.existing("lrf", name) is not None:
        return name
    held_out = held_out_ids(context)
    batch = read_pairs(context.required("preferences", request.mini_batch), request.component)
    earlier = [pair for item in request.replay for pair in read_pairs(context.required("preferences", item))]
    fresh = [pair for pair in batch if pair.example_id not in held_out]
    replay = [pair for pair in earlier if pair.example_id not in held_out]
    replay.sort(key=lambda pair: pair.component != request.component)  # its own first, each kind newest first
    guard = guard_pairs(context.system.optimizable, [*batch, *earlier], held_out)
    started = time.monotonic()
    context.progress(f"adapting the reward function of {request.component}", 0, 1)
    files = await in_short_thread(lambda: _adapted_files(context, request, fresh, replay, guard))
    _record(context, Place("adapt-lrf", request.iteration, request.component), started)
    context.commit("lrf", name, files, {"lrf": request.lrf, "preferences": request.mini_batch})
    context.forget_reward_models()  # the model was changed in place and is no longer what its name says
    return name


def _adapted_files(
    context: StageContext,
    request: AdaptRequest,
    fresh: Sequence[RewardPair],
    replay: Sequence[RewardPair],
    guard: Mapping[str, list[RewardPair]],
) -> dict[str, bytes]:
    settings = context.settings
    model = context.reward_model(request.lrf)
    metrics: dict[str, Any] = {"adapted": False, "reason": "no new pairs outside the held-out examples", "drift": {}}
    if fresh:
        seed = derive_seed("adapt-lrf", settings.seed, request.iteration)
        report = model.adapt(request.component, fresh, replay, settings.lrf, seed=seed, guard=guard, ranks=context.ranks)
        data = _without_clock(report.to_json())
        metrics = {
            "adapted": report.kept,
            "reason": report.reason,
            "drift": {key: -value.loss_of_accuracy for key, value in report.drift.items()},
            "report": data,
        }
    alignment = model.alignment(guard.get(request.component, []), confidence=settings.lrf.confidence)
    metrics["alignment"] = {request.component: asdict(alignment[request.component])}
    return {**model.to_files(), METRICS_FILE: json_file(metrics)}


def guard_pairs(components: Sequence[str], pairs: Sequence[RewardPair], held_out: frozenset[str]) -> Mapping[str, list[RewardPair]]:
    """Held-out pairs of every component, without repeats."""
    found: dict[str, list[RewardPair]] = {name: [] for name in components}
    seen: set[str] = set()
    for pair in pairs:
        key = json.dumps([pair.component, pair.example_id, pair.chosen, pair.rejected], sort_keys=True)
        if pair.example_id in held_out and pair.component in found and key not in seen:
            seen.add(key)
            found[pair.component].append(pair)
    return found


def read_metrics(context: StageContext, name: str) -> dict[str, Any]:
    """What training or adaptation recorded beside the weights. Raises: ArtifactCorrupt: damaged."""
    data: dict[str, Any] = committed(context.required("lrf", name), METRICS_FILE, MetricsShape)
    return data


def _without_clock(report: dict[str, Any]) -> dict[str, Any]:
    """Wall-clock facts stay out of committed files, so that a resumed run commits the same bytes."""
    return {key: value for key, value in report.items() if key != "seconds"}
