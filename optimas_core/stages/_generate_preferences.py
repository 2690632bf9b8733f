"""Stage generate-preferences: proposals for the chosen component, then labelled candidate outputs (paper, section 4.1, 4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from optimas_core.artifacts import current_version
from optimas_core.canonical import derive_seed
from optimas_core.errors import ArtifactCorrupt, DataError, FormatError, OptimasError, TemporaryError, UserError
from optimas_core.optimizers import Attempt, Proposal
from optimas_core.preferences import Variant, collect
from optimas_core.stages._committed import DroppedShape, ProposalShape, RankingShape, committed
from optimas_core.stages._context import StageContext, json_file
from optimas_core.stages._preference_tables import SUMMARY_FILE, PreferenceTables
from optimas_core.stages._proposing import propose
from optimas_core.system import Example

# Rollouts of so many examples keep any number of calls in flight busy; their rows take some megabytes.
_PART_EXAMPLES = 512


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
DROPPED_FILE = "dropped.json"
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
        files = {PROPOSALS_FILE: json_file([item.to_json() for item in found.kept])}
        if found.dropped:
            files[DROPPED_FILE] = json_file([item.to_json() for item in found.dropped])
        context.commit("proposals", name, files, {"configuration": request.configuration})
    return name


def _attempts(context: StageContext, request: ProposeRequest) -> list[Attempt]:
    """Earlier proposals of this knob with their measured mean rewards, which are on one scale over all iterations."""
    rankings = [committed(context.required("proposals", name), RANKING_FILE, RankingShape) for name in reversed(request.rankings)]
    return [
        Attempt(item["values"], item["measured_reward"])
        for ranking in rankings
        if ranking["knob"] == request.knob
        for item in ranking["candidates"]
        if item["values"]
    ]


def read_proposals(context: StageContext, name: str) -> list[Proposal]:
    """Raises: ArtifactCorrupt: damaged, or of a knob that the system lacks."""
    artifact = context.required("proposals", name)
    found = [Proposal.from_json(item) for item in committed(artifact, PROPOSALS_FILE, list[ProposalShape])]
    for item in found:
        space = context.system.components[item.component].space if item.component in context.system.components else {}
        if item.knob not in space or item.values.keys() != {item.knob}:
            raise ArtifactCorrupt(
                f"{artifact.uri}/{PROPOSALS_FILE} proposes {f'{item.component}.{item.knob}'[:120]!r}, which the system lacks.",
                remedy="Delete that folder and resume: the stage is run again.",
            )
    return found


def read_dropped(context: StageContext, name: str) -> list[dict[str, Any]]:
    """What the leak guard dropped, with its reasons."""
    artifact = context.required("proposals", name)
    dropped: list[dict[str, Any]] = committed(artifact, DROPPED_FILE, list[DroppedShape]) if DROPPED_FILE in artifact.names else []
    return dropped


async def generate_preferences(context: StageContext, request: PreferenceRequest) -> str:
    """Commit pairs.parquet and rollouts.parquet; returns the artifact's name. Nothing to do where it exists.

    Raises:
        DataError: not one candidate could be measured, because of the system itself.
        TemporaryError: not one could be, because of a model or a store.
    """
    name = preferences_name(context, request)
    if context.existing("preferences", name) is not None:
        return name
    tables = await measure_preferences(context, request)
    files = tables.files()
    if not any(counted["rollouts_done"] for counted in tables.summary.values()):
        raise _nothing_measured(request.components, context.engine.last_failure)
    files[SUMMARY_FILE] = json_file(tables.summary)
    inputs = {"configuration": request.configuration} | ({"proposals": request.proposals} if request.proposals else {})
    schemas = {"preferences": current_version("preferences"), "rollouts": current_version("rollouts")}
    context.commit("preferences", name, files, inputs, schemas)
    return name


def preferences_name(context: StageContext, request: PreferenceRequest) -> str:
    """The content address of what `generate_preferences` commits for `request`."""
    return context.name("generate-preferences", asdict(request))


async def measure_preferences(context: StageContext, request: PreferenceRequest) -> PreferenceTables:
    """Measure and label; commits nothing."""
    configuration = context.configuration(request.configuration)
    found = read_proposals(context, request.proposals) if request.proposals else []
    tables = PreferenceTables(request.configuration, request.iteration, run_id=context.run.run_id, created_at=context.created_at)
    for component in sorted(request.components):
        item = context.system.components[component]
        knobs = {**item.defaults, **configuration.of(component)}
        proposals = [Variant(proposal.label, {**knobs, **proposal.values}) for proposal in found if proposal.component == component]
        for part in _parts(context.examples(request.examples)):
            data = await collect(
                context.engine,
                component,
                part,
                configuration,
                context.settings.preferences,
                stage="generate-preferences",
                iteration=request.iteration,
                seed=derive_seed("preferences", context.settings.seed, request.iteration),
                proposals=proposals,
                candidates=2 if proposals else None,
                on_progress=context.progress,
            )
            tables.add(data)
    return tables


def _parts(examples: Sequence[Example]) -> list[Sequence[Example]]:
    """Many examples are measured part by part, in the order of the tables, so that only a part's rows are in memory."""
    if len(examples) <= _PART_EXAMPLES:
        return [examples]
    ordered = sorted(examples, key=lambda example: example.id)
    return [ordered[start : start + _PART_EXAMPLES] for start in range(0, len(ordered), _PART_EXAMPLES)]


def _nothing_measured(components: Sequence[str], failure: Exception | None) -> OptimasError:
    """What to raise: bad input, unless the last thing that failed was a model or a store."""
    problem = f"no candidate output of {list(components)} could be measured"
    if isinstance(failure, OptimasError):
        kind = DataError if isinstance(failure, UserError | FormatError) else TemporaryError
        return kind(f"{problem}: {failure.message.rstrip('.')}.", remedy=failure.remedy)
    said = f": {f'{type(failure).__name__}: {failure}'[:300].rstrip('.')}" if failure is not None else ""
    return DataError(f"{problem}{said}.", remedy="Run the system on one training example yourself to see the error; `optimas doctor` does.")
