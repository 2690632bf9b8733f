"""The tasks of the pipelines: what a component's body imports and calls. Returns are artifact names, all of them short texts.

Arguments in common: `workspace` (address), `run_id`, `bundle` (digest of the code), `state` (number of the state that the iteration
follows). `figures` is filled with numbers for people; to the file `manifest`, where one is named, goes what was committed and where.
Every function raises OptimasError when its last try failed.
"""

from __future__ import annotations

from typing import Any

from optimas_core.artifacts import Lease, Workspace
from optimas_core.controller import plan_warm_up
from optimas_core.errors import SpecError
from optimas_core.launchers._iteration import (
    adapt,
    label,
    label_shard,
    optimize,
    plan_after,
    propose,
    validate,
)
from optimas_core.launchers._recurring import check_again, decided, opened_renewal
from optimas_core.launchers._tasks import Figures, note_kfp_run, open_task, run_task, show_manifest, unpacked
from optimas_core.launchers._training import run_training
from optimas_core.rewards import Ranks
from optimas_core.stages import (
    DriftRequest,
    PreferenceRequest,
    Shard,
    StageContext,
    TestRequest,
    TrainRequest,
    check_backbone,
    check_models,
    generate_preferences,
    measure_shard,
    read_decision,
    read_metrics,
    read_ranking,
    sealed_test,
    train_lrf,
)

NOTHING = ""
"""What stands for "none" in a text parameter: a run without reward functions, a local step that kept the incumbent."""

_OCCASION_CHARS = 8
_LEASE_WAIT_S = 6 * 3600.0


def check_prerequisites(workspace: str, run_id: str, bundle: str) -> str:
    """Everything a run needs, before it costs anything; returns the run's identity.

    Raises:
        UserError: names what is missing and what to do.
    """
    from optimas_core.artifacts import probe

    async def work() -> StageContext:
        probe(Workspace.open(workspace).store)
        return open_task(workspace, run_id, bundle)

    context = run_task(workspace, run_id, "prerequisites-check", work)
    check_backbone(context.settings)
    check_models(context.system, also=(context.opro_client,) if context.opro_client is not None else ())
    return context.identity


def check_drift(workspace: str, run_id: str, bundle: str, occasion: str, figures: Figures, manifest: str = "") -> tuple[str, str]:
    """The run that optimizes again on this occasion, and whether it has to ("yes"): "no" where nothing moved, and then it has ended.

    `run_id` is the run that the schedule was made with; `occasion` a name of this time alone, the same in every try. The figures say
    what was compared.
    """
    from optimas_core.spec import freeze

    new_id = f"{run_id}-{occasion[:_OCCASION_CHARS]}"

    async def work() -> bool:
        opened = Workspace.open(workspace)
        frozen = opened.run(run_id).read_spec()
        if frozen is None:
            raise SpecError(f"there is no run {run_id!r} in {workspace}.", remedy="Set the schedule again with `optimas schedule`.")
        base = freeze({**frozen["settings"], "workspace": workspace}, where=f"spec.json of run {run_id}")
        found, context = opened_renewal(opened, base, unpacked(opened, bundle), frozen["system"]["name"], new_id)
        note_kfp_run(context.run, occasion)
        if found.request is None:
            figures["reason"] = found.why
            show_manifest(context, "validations", None, manifest)
            return True
        name, decision = decided(context) or await _checked_for_drift(context, found.request)
        show_manifest(context, "validations", name, manifest)
        score = decision["score"] or {}
        figures.update({key: score[key] for key in ("then", "now", "difference") if score.get(key) is not None}, reason=decision["reason"])
        return bool(decision["moved"])

    return new_id, "yes" if run_task(workspace, new_id, "drift-check", work) else "no"


async def _checked_for_drift(context: StageContext, request: DriftRequest) -> tuple[str, dict[str, Any]]:
    """The check, by the one process that holds the run: another try waits as long as that one gives signs of life."""
    check_backbone(context.settings)
    context.budget.hold_back(2.0 * len(context.split.test))
    lease = Lease(context.run)
    lease.acquire(wait_s=_LEASE_WAIT_S)
    with lease.keep():
        context.before_commit = context.engine.before_call = lease.check
        return await check_again(context, lease, request)


def propose_changes(workspace: str, run_id: str, bundle: str, state: int, figures: Figures, manifest: str = "") -> str:
    """Select: the component and knob of the iteration, and proposals for it."""

    async def work() -> str:
        context = open_task(workspace, run_id, bundle)
        plan = plan_after(context, state)
        figures.update(iteration=plan.iteration, component=plan.component, knob=plan.knob, level=plan.alpha)
        name = await propose(context, plan)
        show_manifest(context, "proposals", name, manifest)
        return name

    return run_task(workspace, run_id, f"{state}-propose", work)


def measure_preferences(workspace: str, run_id: str, bundle: str, state: int, shard: int, shards: int) -> int:
    """One shard of the iteration's mini-batch, or of the first preference data (`state` 0); returns the rollouts done.

    The proposals are committed, so their name needs no parameter. It could have none: kfp.local 2.17 gives a task in a loop the
    loop's item in place of every output of another task.
    """

    async def work() -> int:
        context, part = open_task(workspace, run_id, bundle), Shard(shard, shards)
        if state == 0:
            counts = [await measure_shard(context, request, part) for request in _first_requests(context)]
        else:
            plan = plan_after(context, state)
            counts = [await label_shard(context, plan, await propose(context, plan), part)]
        return sum(component["rollouts_done"] for count in counts for component in count.values())

    return run_task(workspace, run_id, f"{state}-generate-preferences-{shard}", work)


def train_first(workspace: str, run_id: str, bundle: str, figures: Figures, manifest: str = "") -> str:
    """Commit the first preference data, which the shards measured, and train the reward functions on it."""

    async def work(ranks: Ranks) -> str:
        context = open_task(workspace, run_id, bundle)
        context.ranks = ranks
        preferences = [await generate_preferences(context, request) for request in _first_requests(context)]
        name = await train_lrf(context, TrainRequest(tuple(preferences)))
        _show_alignment(context, name, figures)
        show_manifest(context, "lrf", name, manifest)
        return name

    given = {"workspace": workspace, "run_id": run_id, "bundle": bundle}
    return run_training("train-first", given, "0-train-lrf", work)


def adapt_rewards(workspace: str, run_id: str, bundle: str, state: int, proposals: str, figures: Figures, manifest: str = "") -> str:
    """Commit the mini-batch, which the shards measured, and adapt the reward functions to it; NOTHING where there are none."""

    async def work(ranks: Ranks) -> str:
        context = open_task(workspace, run_id, bundle)
        context.ranks = ranks
        plan = plan_after(context, state)
        name = await adapt(context, plan, await label(context, plan, proposals))
        if name is not None:
            _show_alignment(context, name, figures)
        show_manifest(context, "lrf", name, manifest)
        return name or NOTHING

    given: dict[str, str | int] = {"workspace": workspace, "run_id": run_id, "bundle": bundle, "state": state, "proposals": proposals}
    return run_training("adapt-rewards", given, f"{state}-adapt-lrf", work)


def optimize_locally(
    workspace: str, run_id: str, bundle: str, state: int, proposals: str, lrf: str, figures: Figures, manifest: str = ""
) -> str:
    """Rank the candidates by local reward and choose one; returns the ranking's name."""

    async def work() -> str:
        context = open_task(workspace, run_id, bundle)
        plan = plan_after(context, state)
        name = await optimize(context, plan, proposals, await label(context, plan, proposals), lrf or None)
        ranking = read_ranking(context, name)
        figures.update(candidates=len(ranking["candidates"]), steered_by=ranking["steered_by"], reason=ranking["reason"])
        show_manifest(context, "proposals", name, manifest)
        return name

    return run_task(workspace, run_id, f"{state}-local-optimize", work)


def validate_choice(workspace: str, run_id: str, bundle: str, state: int, ranking: str, figures: Figures, manifest: str = "") -> str:
    """The gate's verdict on the chosen candidate; NOTHING where the local step kept the incumbent."""

    async def work() -> str:
        context = open_task(workspace, run_id, bundle)
        name = await validate(context, plan_after(context, state), ranking)
        decision = {"kind": "kept"} if name is None else read_decision(context, name)
        figures.update({key: decision[key] for key in ("kind", "difference", "reason") if decision.get(key) is not None})
        spent = context.budget.spent()
        figures.update(spent_usd=spent.usd, spent_system_runs=spent.system_runs)
        show_manifest(context, "validations", name, manifest)
        return name or NOTHING

    return run_task(workspace, run_id, f"{state}-validate-accept", work)


def read_test(workspace: str, run_id: str, bundle: str, before: str, after: str, figures: Figures, manifest: str = "") -> str:
    """The sealed test of two configurations; returns its name."""

    async def work() -> str:
        context = open_task(workspace, run_id, bundle, for_the_test=True)
        name = await sealed_test(context, TestRequest(before, after))
        difference = read_decision(context, name)["difference"]
        figures.update({key: difference[key] for key in ("mean", "n") if difference.get(key) is not None})
        show_manifest(context, "validations", name, manifest)
        return name

    return run_task(workspace, run_id, "sealed-test", work)


def _first_requests(context: StageContext) -> list[PreferenceRequest]:
    components, examples = plan_warm_up(context.settings, context.system, context.split.train)
    return [PreferenceRequest(0, (name,), context.system.configuration.digest, examples) for name in components]


def _show_alignment(context: StageContext, lrf: str, figures: Figures, manifest: str = "") -> None:
    """Held-out pairwise accuracy of each component's reward function."""
    for component, aligned in read_metrics(context, lrf)["alignment"].items():
        figures[f"alignment_{component}"] = aligned["accuracy"]
