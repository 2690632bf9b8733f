"""Stage generate-preferences: proposals for the chosen component, then labelled candidate outputs (paper, section 4.1, 4.2)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from optimas_core.artifacts import current_version
from optimas_core.canonical import derive_seed
from optimas_core.errors import DataError
from optimas_core.optimizers import Attempt, Proposal
from optimas_core.preferences import Variant, collect
from optimas_core.stages._context import StageContext, json_file
from optimas_core.stages._preference_tables import (
    PAIRS_FILE,
    ROLLOUTS_FILE,
    SUMMARY_FILE,
    preference_rows,
    rollout_rows,
    table_bytes,
)
from optimas_core.stages._proposing import propose


@dataclass(frozen=True, slots=True)
class ProposeRequest:
    """Proposals for one knob of one component under `configuration`; `preferences` hold what proposers may learn from, `rankings`
    what was proposed before and how it was measured (newest first)."""

    iteration: int
    component: str
    knob: str
    configuration: str
    preferences: tuple[str, ...]
    rankings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PreferenceRequest:
    """Label candidate outputs of `components` on `examples` under `configuration`; `proposals` names this iteration's."""

    iteration: int
    components: tuple[str, ...]
    configuration: str
    examples: tuple[str, ...]
    proposals: str | None = None


PROPOSALS_FILE = "proposals.json"
RANKING_FILE = "ranking.json"


async def make_proposals(context: StageContext, request: ProposeRequest) -> str:
    """Commit the proposals of an iteration; returns the artifact's name. Nothing to do where it exists."""
    name = context.name("propose", asdict(request))
    if context.existing("proposals", name) is None:
        found = await propose(
            context,
            component=request.component,
            knob=request.knob,
            configuration=context.configuration(request.configuration),
            preferences=[context.required("preferences", item) for item in request.preferences],
            iteration=request.iteration,
            attempts=_attempts(context, request),
        )
        files = {PROPOSALS_FILE: json_file([item.to_json() for item in found])}
        context.commit("proposals", name, files, {"configuration": request.configuration})
    return name


def _attempts(context: StageContext, request: ProposeRequest) -> list[Attempt]:
    """Earlier proposals of this knob with their measured mean rewards, which are on one scale over all iterations."""
    rankings = [json.loads(context.required("proposals", name).read(RANKING_FILE)) for name in reversed(request.rankings)]
    return [
        Attempt(item["values"], item["measured_reward"])
        for ranking in rankings
        if ranking["knob"] == request.knob
        for item in ranking["candidates"]
        if item["values"]
    ]


def read_proposals(context: StageContext, name: str) -> list[Proposal]:
    return [Proposal.from_json(item) for item in json.loads(context.required("proposals", name).read(PROPOSALS_FILE))]


async def generate_preferences(context: StageContext, request: PreferenceRequest) -> str:
    """Commit pairs.parquet and rollouts.parquet; returns the artifact's name. Nothing to do where it exists.

    Raises:
        DataError: not one candidate could be measured.
    """
    name = context.name("generate-preferences", asdict(request))
    if context.existing("preferences", name) is not None:
        return name
    settings = context.settings.preferences
    configuration = context.configuration(request.configuration)
    collected = []
    for component in request.components:
        item = context.system.components[component]
        knobs = {**item.defaults, **configuration.of(component)}
        proposals = [
            Variant(proposal.label, {**knobs, **proposal.values})
            for proposal in (read_proposals(context, request.proposals) if request.proposals else [])
            if proposal.component == component
        ]
        collected.append(
            await collect(
                context.engine,
                component,
                context.examples(request.examples),
                configuration,
                settings,
                stage="generate-preferences",
                iteration=request.iteration,
                seed=derive_seed("preferences", context.settings.seed, request.iteration),
                proposals=proposals,
                candidates=2 if proposals else None,
                on_progress=context.progress,
            )
        )
    if not any(record.rollouts for data in collected for record in data.inputs):
        raise DataError(
            f"no candidate output of {list(request.components)} could be measured.",
            remedy="Run the system on one training example yourself to see the error; `optimas doctor` does.",
        )
    run_id, created_at = context.run.run_id, context.created_at
    files = {
        PAIRS_FILE: table_bytes("preferences", preference_rows(collected, request.configuration, request.iteration), run_id, created_at),
        ROLLOUTS_FILE: table_bytes("rollouts", rollout_rows(collected, request.configuration), run_id, created_at),
        SUMMARY_FILE: json_file(
            {
                data.component: {
                    "inputs": len(data.inputs),
                    "pairs": sum(len(record.pairs) for record in data.inputs),
                    "rollouts_done": data.rollouts_done,
                    "rollouts_saved": data.rollouts_saved,
                }
                for data in collected
            }
        ),
    }
    inputs = {"configuration": request.configuration} | ({"proposals": request.proposals} if request.proposals else {})
    schemas = {"preferences": current_version("preferences"), "rollouts": current_version("rollouts")}
    context.commit("preferences", name, files, inputs, schemas)
    return name
