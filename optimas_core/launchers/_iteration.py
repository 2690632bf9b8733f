"""One iteration of Algorithm 1 as steps. Every launcher runs these, one after another or as tasks of a pipeline.

Each step takes the plan and the names that earlier steps returned, calls one stage and returns the name it committed. Names are
content addresses: a step that was done before costs nothing, wherever it was done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from optimas_core.controller import IterationPlan, IterationResult, RunState, plan_iteration
from optimas_core.errors import ArtifactCorrupt
from optimas_core.stages import (
    AdaptRequest,
    OptimizeRequest,
    PreferenceRequest,
    ProposeRequest,
    Shard,
    StageContext,
    ValidateRequest,
    adapt_lrf,
    generate_preferences,
    local_optimize,
    make_proposals,
    measure_shard,
    read_decision,
    read_metrics,
    read_ranking,
    validate_accept,
)


def plan_after(context: StageContext, index: int) -> IterationPlan:
    """The plan of the iteration that follows state `index`: the same wherever it is made.

    Raises:
        ArtifactCorrupt: there is no such state.
    """
    stored = context.run.read_state(index)
    if stored is None:
        raise ArtifactCorrupt(f"{context.run.uri} has no state {index}.", remedy="Look at the run with `optimas status`.")
    return plan_iteration(RunState.from_json(stored.data), context.settings, context.system, context.split.train)


async def propose(context: StageContext, plan: IterationPlan) -> str:
    """Proposals for the chosen knob."""
    request = ProposeRequest(plan.iteration, plan.component, plan.knob, plan.configuration, plan.preferences, plan.rankings)
    return await make_proposals(context, request)


async def label_shard(context: StageContext, plan: IterationPlan, proposals: str, shard: Shard) -> Mapping[str, Mapping[str, int]]:
    """A part of the mini-batch; commits nothing (see `measure_shard`)."""
    return await measure_shard(context, _labelling(context, plan, proposals), shard)


async def label(context: StageContext, plan: IterationPlan, proposals: str) -> str:
    """The mini-batch: outputs of the incumbent and of the proposals, labelled."""
    return await generate_preferences(context, _labelling(context, plan, proposals))


async def adapt(context: StageContext, plan: IterationPlan, mini_batch: str) -> str | None:
    """The reward functions after the mini-batch; None where the run has none."""
    if plan.lrf is None:
        return None
    return await adapt_lrf(context, AdaptRequest(plan.iteration, plan.component, plan.lrf, mini_batch, plan.replay))


async def optimize(context: StageContext, plan: IterationPlan, proposals: str, mini_batch: str, lrf: str | None) -> str:
    """The ranking of the candidates and the chosen one."""
    request = OptimizeRequest(
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
    )
    return await local_optimize(context, request)


async def validate(context: StageContext, plan: IterationPlan, ranking: str) -> str | None:
    """The gate's verdict on the chosen candidate; None where the local step kept the incumbent."""
    challenger = _challenger(context, plan, ranking)
    if challenger is None:
        return None
    return await validate_accept(context, ValidateRequest(plan.iteration, plan.configuration, challenger, plan.alpha, plan.accepted))


def result_of(
    context: StageContext, plan: IterationPlan, *, proposals: str, mini_batch: str, lrf: str | None, ranking: str, validation: str | None
) -> IterationResult:
    """What the committed artifacts of an iteration come to."""
    kept = IterationResult(
        configuration=plan.configuration,
        lrf=lrf,
        mini_batch=mini_batch,
        verdict="kept",
        reason=read_ranking(context, ranking)["reason"],
        alpha_spent=0.0,
        difference=None,
        validation_mean=None,
        proposals=proposals,
        ranking=ranking,
        validation=None,
        adapted=bool(lrf and read_metrics(context, lrf).get("adapted")),
    )
    challenger = _challenger(context, plan, ranking)
    if challenger is None or validation is None:
        return kept
    decision = read_decision(context, validation)
    accepted = decision["kind"] == "accept"
    return replace(
        kept,
        configuration=challenger if accepted else plan.configuration,
        verdict=decision["kind"],
        reason=decision["reason"],
        alpha_spent=decision["alpha_spent"],
        difference=decision["difference"],
        validation_mean=decision["challenger_mean" if accepted else "incumbent_mean"],
        validation=validation,
        challenger=challenger,
    )


async def iterate(context: StageContext, plan: IterationPlan) -> IterationResult:
    """All steps, one after another, in this process."""
    proposals = await propose(context, plan)
    mini_batch = await label(context, plan, proposals)
    lrf = await adapt(context, plan, mini_batch)
    ranking = await optimize(context, plan, proposals, mini_batch, lrf)
    validation = await validate(context, plan, ranking)
    return result_of(context, plan, proposals=proposals, mini_batch=mini_batch, lrf=lrf, ranking=ranking, validation=validation)


def _labelling(context: StageContext, plan: IterationPlan, proposals: str) -> PreferenceRequest:
    first = context.settings.optimizers.order == "proposals_first"
    return PreferenceRequest(plan.iteration, (plan.component,), plan.configuration, plan.fresh, proposals if first else None)


def _challenger(context: StageContext, plan: IterationPlan, ranking: str) -> str | None:
    """The committed configuration with the ranking's choice, None where that is the incumbent."""
    values = read_ranking(context, ranking)["values"]
    if values is None:
        return None
    incumbent = context.configuration(plan.configuration)
    return context.run.put_configuration(incumbent.replace(plan.component, values).to_json())
