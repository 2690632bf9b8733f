"""A run that starts where another one ended: its configuration, and copies of the reward functions that belong to it."""

from __future__ import annotations

from collections.abc import Mapping

from optimas_core.artifacts import RunWorkspace, Workspace
from optimas_core.errors import ArtifactCorrupt, SpecError
from optimas_core.spec import RunSettings, WarmStart
from optimas_core.system import CompoundSystem, Configuration


def warmly_started(settings: RunSettings, start: WarmStart, system: CompoundSystem, workspace: str) -> tuple[RunSettings, CompoundSystem]:
    """The settings with every digest written out, and the system with that starting configuration.

    Written out because the other run may go on: what a spec froze must stay what it was. Reward functions that these settings cannot go
    on from are left out: new ones are trained.

    Raises:
        SpecError: there is no such run, state or configuration.
        ConfigurationError: the configuration does not fit the system as it is now.
    """
    run = Workspace.open(workspace).run(start.run)
    if start.configuration is None:
        stored = run.latest_state()
        if stored is None:
            raise SpecError(
                f"warm_start.run = {start.run!r} has no state in {workspace}.", remedy="`optimas status WORKSPACE` lists its runs."
            )
        start = WarmStart(run=start.run, configuration=stored.data["configuration"], lrf=start.lrf or stored.data.get("lrf"))
    try:
        data = run.read_configuration(str(start.configuration))
    except ValueError as error:
        raise SpecError(f"warm_start.configuration: {error}.", remedy="Use a digest that the run's report names.") from None
    if data is None:
        raise SpecError(f"run {start.run!r} has no configuration {start.configuration}.", remedy="Use a digest that its report names.")
    if start.lrf is not None and not _continues(run, start.lrf, settings, system):
        start = start.model_copy(update={"lrf": None})
    return settings.model_copy(update={"warm_start": start}), system.starting_from(Configuration.from_json(data))


def _continues(run: RunWorkspace, lrf: str, settings: RunSettings, system: CompoundSystem) -> bool:
    """Whether training can go on from another run's reward functions: the same model and components, and the same examples held out.

    With other examples held out they would be judged on what they were trained on.

    Raises:
        ArtifactCorrupt: they are gone or damaged.
    """
    artifact, spec = run.open_artifact("lrf", lrf), run.read_spec()
    if artifact is None or spec is None:
        raise ArtifactCorrupt(f"{run.uri} has no reward functions {lrf}.", remedy="Restore them, or start without `warm_start.lrf`.")
    config, wanted = artifact.read_json("config.json"), settings.lrf.model_dump()
    shape = ("rung", "backbone", "max_tokens", "precision", *(("lora_rank", "lora_alpha") if settings.lrf.rung == "lora" else ()))
    theirs = spec["settings"]
    return (
        all(config.get(key) == wanted[key] for key in shape)
        and config.get("components") == list(system.optimizable)
        and (theirs["seed"], theirs["preferences"]["held_out"]) == (settings.seed, settings.preferences.held_out)
    )


def bring_reward_models(workspace: Workspace, run: RunWorkspace, start: WarmStart, configuration: Configuration) -> None:
    """Copy the reward functions that the run starts with into it: those it trains further, and those that choose values per input.

    Raises:
        ArtifactCorrupt: the run that they are taken from has them no more.
    """
    chosen = [value for knobs in configuration.knobs.values() for value in knobs.values()]
    named = [start.lrf, *(value.get("lrf") for value in chosen if isinstance(value, Mapping))]
    source = workspace.run(start.run)
    for name in dict.fromkeys(name for name in named if name is not None):
        if run.open_artifact("lrf", name) is not None:
            continue
        artifact = source.open_artifact("lrf", name)
        if artifact is None:
            raise ArtifactCorrupt(
                f"{source.uri} has no reward functions {name}.", remedy="Restore them, or start without `warm_start.lrf`."
            )
        run.commit_artifact(
            "lrf",
            name,
            {file: artifact.read(file) for file in artifact.names},
            inputs=artifact.manifest.inputs,
            producer=artifact.manifest.producer,
            created_at=artifact.manifest.created_at,
        )
