"""Runs the proposers a knob calls for and gathers what they propose."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from optimas_core.artifacts import Artifact
from optimas_core.canonical import derive_seed, digest
from optimas_core.crash_points import crash_point
from optimas_core.errors import ConfigurationError
from optimas_core.models import ModelReply
from optimas_core.optimizers import (
    Attempt,
    Demonstrations,
    Dropped,
    Edits,
    OtherValues,
    Proposal,
    Proposer,
    Situation,
    without_repeats,
)
from optimas_core.rollouts import Place
from optimas_core.stages._context import StageContext
from optimas_core.stages._preference_tables import observations
from optimas_core.system import CallContext, Component, Configuration, Prompt, PromptSpace, WorstCase

# What a chat template adds to the text of one question.
_TEMPLATE_TOKENS = 32


@dataclass(frozen=True, slots=True)
class Proposed:
    """What the proposers made: the candidates, and those the leak guard dropped."""

    kept: list[Proposal]
    dropped: list[Dropped]


async def propose(
    context: StageContext,
    *,
    component: str,
    knob: str,
    configuration: Configuration,
    preferences: Sequence[Artifact],
    iteration: int,
    attempts: Sequence[Attempt] = (),
    step: int = 0,
) -> Proposed:
    """Proposals for one knob, each proposer's in turn, without repeats, without the incumbent and without copies of examples."""
    item = context.system.components[component]
    knobs = {**item.defaults, **configuration.of(component)}
    situation = Situation(
        component=item,
        knob=knob,
        knobs=knobs,
        observations=observations(preferences, component),
        attempts=attempts,
        count=context.settings.optimizers.candidates,
        seed=derive_seed("propose", context.settings.seed, iteration, step),
    )
    place = Place("generate-preferences" if step == 0 else "local-optimize", iteration, component)
    found: list[Proposal] = []
    if not isinstance(item.space[knob], PromptSpace):
        return Proposed(await OtherValues().propose(situation), [])
    for kind in context.settings.optimizers.proposers:
        match kind:
            case "opro":
                found += await _opro(context, situation, place)
            case "demonstrations":
                found += await _proposer(Demonstrations(), situation)
            case "edits":
                found += await _proposer(Edits(), situation)
    inside = [proposal for proposal in without_repeats(found, knobs) if _is_inside(item, proposal)]
    if not context.settings.optimizers.leak_guard:
        return Proposed(inside, [])
    incumbent, start = Prompt.from_json(knobs[knob]), Prompt.from_json(item.defaults[knob])
    return Proposed(*context.leak_guard().split(inside, incumbent, start))


def _is_inside(component: Component, proposal: Proposal) -> bool:
    """Whether the space allows it: an edit may have made an instruction too long."""
    try:
        component.space[proposal.knob].check(proposal.values[proposal.knob], proposal.knob)
    except ConfigurationError:
        return False
    return True


async def _proposer(proposer: Proposer, situation: Situation) -> list[Proposal]:
    return await proposer.propose(situation)


class _CachedCalls(CallContext):
    """Model calls through the run's call cache: a proposal that was paid for before a kill is not asked for again."""

    def __init__(self, context: StageContext, seed: int, bound: WorstCase, again: Callable[[WorstCase], Coroutine[Any, Any, None]]) -> None:
        super().__init__(seed, bound=bound, again=again)
        self._stage = context

    async def complete(self, client: Any, request: Any) -> Any:
        paid: list[ModelReply] = []

        async def ask() -> dict[str, Any]:
            self._stage.engine.before_call()
            crash_point("proposal-call.before")
            paid.append(await CallContext.complete(self, client, request))
            crash_point("proposal-call.after")
            return {"component": "", "outputs": {"text": paid[0].text}, "status": "ok", "error": "", "usage": []}

        record, _ = await self._stage.engine.remember(digest(["model", client.id, request.to_json()]), ask)
        text = record["outputs"]["text"]
        return paid[0] if paid else ModelReply(text, client.id, 0, 0, "stop", 0.0, 0.0)


async def _opro(context: StageContext, situation: Situation, place: Place) -> list[Proposal]:
    """OPRO through the run's budget: its calls are reserved and settled like every other."""
    from optimas_core.optimizers import Opro
    from optimas_core.optimizers._opro import meta_prompt

    clients = {client.id: client for client in situation.component.clients}
    model = situation.knobs.get("model")
    client = context.opro_client or (clients.get(model) if isinstance(model, str) else None)
    if client is None:
        return []
    most = context.settings.optimizers.opro_max_tokens
    asked = meta_prompt(situation, Prompt.from_json(situation.knobs[situation.knob]))
    tokens_in = client.count_tokens(asked) + _TEMPLATE_TOKENS
    one = WorstCase(tokens_in + most, client.price.usd(tokens_in, most) if client.price else None)
    every = WorstCase(one.tokens * situation.count, None if one.usd is None else one.usd * situation.count)
    reservation = context.budget.reserve(every, 0.0)

    async def again(bound: WorstCase) -> None:
        nonlocal reservation
        reservation = context.budget.reserve(bound, 0.0, beside=reservation)

    calls = _CachedCalls(context, situation.seed, one, again)
    try:
        return await Opro(client, calls, max_tokens=most).propose(situation)
    finally:
        context.budget.settle(reservation, place, calls.usage, system_runs=0.0)
