"""The embedded default: stages run in this process, one after another."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any

from optimas_core.controller import IterationPlan, IterationResult
from optimas_core.stages import (
    AdaptRequest,
    OptimizeRequest,
    PreferenceRequest,
    ProposeRequest,
    StageContext,
    TestRequest,
    TrainRequest,
    ValidateRequest,
    adapt_lrf,
    generate_preferences,
    local_optimize,
    make_proposals,
    read_decision,
    read_metrics,
    read_ranking,
    sealed_test,
    train_lrf,
    validate_accept,
)


class InProcessLauncher:
    """Calls the stage functions on one event loop. Every stage that is committed already costs nothing."""

    def __init__(self, context: StageContext) -> None:
        self._context = context
        self._runner = asyncio.Runner()

    def warm_up(self, components: tuple[str, ...], configuration: str, examples: tuple[str, ...]) -> tuple[Mapping[str, str], str | None]:
        preferences = {
            name: self._run(generate_preferences(self._context, PreferenceRequest(0, (name,), configuration, examples)))
            for name in components
        }
        return preferences, self._run(train_lrf(self._context, TrainRequest(tuple(preferences.values()))))

    def iterate(self, plan: IterationPlan) -> IterationResult:
        result: IterationResult = self._run(iterate(self._context, plan))
        return result

    def test(self, before: str, after: str) -> str:
        name: str = self._run(sealed_test(self._context, TestRequest(before, after)))
        return name

    def close(self) -> None:
        """Close the event loop and the clients' connections that live on it."""
        self._runner.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)


async def iterate(context: StageContext, plan: IterationPlan) -> IterationResult:
    """One iteration of Algorithm 1 for `plan.component`: propose, label, adapt, rank, validate."""
    proposals = await make_proposals(
        context, ProposeRequest(plan.iteration, plan.component, plan.knob, plan.configuration, plan.preferences, plan.rankings)
    )
    first = context.settings.optimizers.order == "proposals_first"
    mini_batch = await generate_preferences(
        context,
        PreferenceRequest(plan.iteration, (plan.component,), plan.configuration, plan.fresh, proposals if first else None),
    )
    lrf = plan.lrf
    if lrf is not None:
        lrf = await adapt_lrf(context, AdaptRequest(plan.iteration, plan.component, lrf, mini_batch, plan.replay))
    ranking = await local_optimize(
        context,
        OptimizeRequest(
            plan.iteration,
            plan.component,
            plan.knob,
            plan.configuration,
            lrf,
            mini_batch,
            proposals,
            plan.preferences,
            plan.search,
            plan.rejected,
        ),
    )
    ranked = read_ranking(context, ranking)
    adapted = bool(lrf and read_metrics(context, lrf).get("adapted"))
    if ranked["values"] is None:
        return IterationResult(
            plan.configuration, lrf, mini_batch, "kept", ranked["reason"], 0.0, None, None, proposals, ranking, None, adapted
        )
    incumbent = context.configuration(plan.configuration)
    challenger = incumbent.replace(plan.component, ranked["values"])
    name = context.run.put_configuration(challenger.to_json())
    validation = await validate_accept(context, ValidateRequest(plan.iteration, plan.configuration, name, plan.alpha, plan.accepted))
    decision = read_decision(context, validation)
    accepted = decision["kind"] == "accept"
    return IterationResult(
        configuration=name if accepted else plan.configuration,
        lrf=lrf,
        mini_batch=mini_batch,
        verdict=decision["kind"],
        reason=decision["reason"],
        alpha_spent=decision["alpha_spent"],
        difference=decision["difference"],
        validation_mean=decision["challenger_mean" if accepted else "incumbent_mean"],
        proposals=proposals,
        ranking=ranking,
        validation=validation,
        adapted=adapted,
        challenger=name,
    )
