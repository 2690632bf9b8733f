"""From run.yaml to a stage context: import the system, read the data, freeze the spec. All that can fail for free fails here."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from optimas_core.artifacts import Conflict, Workspace
from optimas_core.canonical import canonical_json, digest
from optimas_core.errors import EnvironmentNotReady, OptimasError, SpecError, SystemDefinitionError
from optimas_core.rollouts import Budget, RolloutEngine
from optimas_core.spec import RunSettings, WarmStart, freeze, load_run_settings
from optimas_core.stages._context import Progress, StageContext, no_progress
from optimas_core.stages._data import data_digest, keep_data, kept_data, lies_elsewhere, read_split
from optimas_core.stages._warm_start import bring_reward_models, warmly_started
from optimas_core.system import (
    AdapterSpace,
    CompoundSystem,
    Configuration,
    Split,
    require_columns,
)

# What may change between two starts of one run without changing its results.
_NOT_IDENTITY = ("workspace", "concurrency", "budget", "name", "drift")


@dataclass(frozen=True)
class Project:
    """A checked run.yaml: settings, the system, the data and the digest of all that decides results.

    `renewed`: a run that begins with a drift check; where it starts from stands in its frozen spec alone.
    """

    directory: Path
    settings: RunSettings
    system: CompoundSystem
    split: Split
    identity: str
    module: Any
    renewed: bool = False

    @property
    def run_id(self) -> str:
        """The name in run.yaml, else system and identity: the same spec is the same run."""
        return self.settings.name or f"{self.system.name}-{self.identity[:8]}"

    @property
    def proposing(self) -> tuple[Any, ...]:
        """The client that optimizers.opro_model names, if it does."""
        client = _opro_client(self.module, self.settings)
        return () if client is None else (client,)

    @property
    def workspace_url(self) -> str:
        """The workspace as an address, a relative directory taken from run.yaml's own."""
        return _workspace_url(self.settings, self.directory)


def load_project(run_yaml: Path, *, name: str | None = None, seed: int | None = None, workspace: str | None = None) -> Project:
    """Read and check everything a run is made of, before the first call is paid for.

    `name`, `seed` (of the run and of the data split) and `workspace` replace what run.yaml says.

    Raises:
        UserError: one sentence with what is wrong, where, and what to do.
    """
    settings = _with_changes(load_run_settings(run_yaml), name, seed, workspace)
    directory = run_yaml.resolve().parent
    split = None
    if settings.name is not None and lies_elsewhere(settings.data):  # a run of that name goes on with what it began with
        place = Workspace.open(_workspace_url(settings, directory))
        split = _kept_split(place, place.run(settings.name).read_spec())
    return project_of(settings, directory, split)


def reopen_project(directory: Path, workspace: str, run_id: str) -> Project:
    """The project of a run that was begun elsewhere: code and data from `directory`, settings from the run's frozen spec.

    Raises:
        SpecError: there is no such run in the workspace.
        UserError: as `load_project`.
    """
    opened = Workspace.open(workspace)
    frozen = opened.run(run_id).read_spec()
    if frozen is None:
        raise SpecError(f"there is no run {run_id!r} in {workspace}.", remedy="`optimas status WORKSPACE` lists its runs.")
    settings = freeze({**frozen["settings"], "workspace": workspace, "name": run_id}, where=f"spec.json of run {run_id}")
    started = opened.run(run_id).read_configuration(frozen["start"]) if settings.warm_start is not None else None
    project = project_of(settings, directory, _kept_split(opened, frozen), None if started is None else Configuration.from_json(started))
    return replace(project, renewed=bool(frozen.get("renewed")))


def _kept_split(workspace: Workspace, frozen: Mapping[str, Any] | None) -> Split | None:
    """The examples that a run keeps a copy of; None where there is no such run, or its sources lie beside its code."""
    data = frozen["data"] if frozen is not None else {}
    return kept_data(workspace, data["digest"]) if data.get("kept") else None


def project_of(settings: RunSettings, directory: Path, split: Split | None = None, started: Configuration | None = None) -> Project:
    """Import the system, read the data and check both; `directory` is what relative paths and module names are taken from.

    `split`: the examples, and `started`: the configuration of a warm start, where they are known already.

    Raises:
        UserError: as `load_project`.
    """
    system, module = _build(settings.system, directory)
    if started is not None:
        system = system.starting_from(started)
    elif settings.warm_start is not None:
        settings, system = warmly_started(settings, settings.warm_start, system, _workspace_url(settings, directory))
    _set_prices(system, settings, _opro_client(module, settings))
    split = read_split(settings.data, directory) if split is None else split
    require_columns(split, system.inputs)
    system.check_configuration(system.configuration)
    spaces = [space for item in system.components.values() for space in item.space.values()]
    if all(isinstance(space, AdapterSpace) for space in spaces):
        raise SystemDefinitionError(
            f"no component of {system.name!r} has a space that this version can change.", remedy="Give at least one component a space."
        )
    _try_metric(system, split)
    cap = settings.budget.system_runs
    if cap is not None and cap <= 2 * len(split.test):
        raise SpecError(
            f"budget.system_runs = {cap:g} cannot pay for more than the sealed test: {len(split.test)} examples, two configurations.",
            remedy=f"Give it more than {2 * len(split.test)}, or make the test split smaller.",
        )
    from optimas_core import __version__

    deciding = settings.model_dump(mode="json", exclude=set(_NOT_IDENTITY))
    identity = digest([__version__, deciding, system.fingerprint, system.configuration.digest, data_digest(split)])
    return Project(directory, settings, system, split, identity, module)


def renewed_project(base: RunSettings, directory: Path, workspace: Workspace, run_id: str, start: WarmStart | None) -> Project:
    """The project of a new run with the settings of an earlier one: calls of its own, and another place to start from (None: as before).

    Raises:
        ConfigurationError: the system has changed, and `start` does not fit it.
        UserError: as `load_project`.
    """
    changes = {"workspace": workspace.url, "name": run_id, "calls": "own", "warm_start": start or base.warm_start}
    return replace(project_of(base.model_copy(update=changes), directory), renewed=True)


def _workspace_url(settings: RunSettings, directory: Path) -> str:
    place = settings.workspace
    return place if "://" in place or Path(place).is_absolute() else str(directory / place)


def _with_changes(settings: RunSettings, name: str | None, seed: int | None, workspace: str | None) -> RunSettings:
    changes: dict[str, Any] = {}
    if name is not None:
        changes["name"] = name
    if seed is not None:
        split = settings.data.split.model_copy(update={"seed": seed})
        changes |= {"seed": seed, "data": settings.data.model_copy(update={"split": split})}
    if workspace is not None:
        place = workspace if "://" in workspace else os.path.abspath(workspace)
        changes["workspace"] = place
    return settings.model_copy(update=changes)


def open_run(project: Project, *, progress: Progress = no_progress, workspace: Workspace | None = None) -> StageContext:
    """Open or create the run in its workspace; an existing run keeps the spec and the time it was created with.

    Raises:
        SpecError: a run of that name exists with another spec.
    """
    opened = workspace or Workspace.open(project.workspace_url)
    run = opened.run(project.run_id)
    frozen = run.read_spec()
    if frozen is None:
        if lies_elsewhere(project.settings.data):
            keep_data(opened, project.split)
        try:
            frozen = run.freeze_spec(_spec(project))
        except Conflict:  # another process began the same run a moment ago: its time of creation counts
            frozen = run.read_spec() or {}
    if frozen.get("identity") != project.identity:
        raise SpecError(
            f"run {project.run_id!r} in {opened.url} was started with another spec, code or data.",
            remedy="Give this one another `name` in run.yaml, or restore what it was started with.",
        )
    budget = Budget(project.settings.budget, run)
    run.put_configuration(project.system.configuration.to_json())
    if project.settings.warm_start is not None:
        bring_reward_models(opened, run, project.settings.warm_start, project.system.configuration)
    run.write_file("report/caps.json", canonical_json(project.settings.budget.model_dump()).encode())  # they may be raised on a resume
    calls = opened.calls if project.settings.calls == "shared" else replace(opened.calls, only_for=run.run_id)
    context = StageContext(
        run=run,
        settings=project.settings,
        system=project.system,
        split=project.split,
        engine=RolloutEngine(project.system, budget, calls=calls, concurrency=project.settings.concurrency),
        budget=budget,
        identity=project.identity,
        created_at=frozen["created_at"],
        producer=frozen["producer"],
        progress=progress,
        opro_client=_opro_client(project.module, project.settings),
    )

    scoring = threading.Lock()

    def score(lrf: str, component: str, inputs: Mapping[str, Any], outputs: Sequence[Mapping[str, Any]]) -> Sequence[float]:
        model = context.reward_model(lrf)
        with scoring:  # one model, one caller at a time
            rewards = model.score(component, [(inputs, item) for item in outputs])
        return [float(reward) for reward in rewards]

    context.engine.use_scorer(score)
    return context


def check_models(system: CompoundSystem, *, also: Sequence[Any] = ()) -> None:
    """Ask every model the system may use, and `also` these, whether it answers.

    Raises:
        EnvironmentNotReady: names the model and what to do.
    """
    clients = {id(client): client for client in (*(c for item in system.components.values() for c in item.clients), *also)}

    async def check() -> None:
        for client in clients.values():
            await client.check()

    asyncio.run(check())


def check_backbone(settings: RunSettings) -> Path:
    """Make sure that the reward functions' backbone is there, before preference data is paid for; returns its directory.

    Raises:
        EnvironmentNotReady: not prepared, or no Hugging Face model.
    """
    from optimas_core.models.embedded import EMBEDDED, embedded_path

    name = settings.lrf.backbone
    path = embedded_path(name) if name in EMBEDDED else Path(name)
    if not os.path.isfile(path / "config.json"):  # unlike Path.is_file it also knows a name that is too long
        raise EnvironmentNotReady(f"lrf.backbone: {path} holds no Hugging Face model.", remedy="Correct lrf.backbone.")
    return path


def _spec(project: Project) -> dict[str, Any]:
    from optimas_core import __version__

    return {
        "format": 1,
        "identity": project.identity,
        "settings": project.settings.model_dump(mode="json", exclude={"workspace"}),
        "system": {
            "name": project.system.name,
            "components": list(project.system.components),
            "optimizable": list(project.system.optimizable),
            "fingerprint": project.system.fingerprint,
            "metric": getattr(project.system.metric, "__name__", "metric"),
            "metric_range": list(project.system.metric_range),
        },
        "data": {
            "digest": data_digest(project.split),
            "train": len(project.split.train),
            "validation": len(project.split.validation),
            "test": len(project.split.test),
            "kept": lies_elsewhere(project.settings.data),
        },
        "start": project.system.configuration.digest,
        "renewed": project.renewed,
        "prices": _price_digest(project),
        "producer": f"optimas-kube {__version__}",
        "created_at": datetime.now(UTC).replace(microsecond=0).isoformat(),
    }


def _price_digest(project: Project) -> str:
    """Digest of what the run's models cost by what is known now; None stands for an unknown price."""
    clients = [client for item in project.system.components.values() for client in item.clients]
    prices = {client.id: client.price for client in (*clients, *project.proposing)}
    return digest({name: price and [price.usd_per_million_in, price.usd_per_million_out] for name, price in prices.items()})


def _build(where: str, directory: Path) -> tuple[CompoundSystem, Any]:
    name, _, function = where.partition(":")
    if not name or not function:
        raise SpecError(f"system = {where!r} is not module:function.", remedy="Write for example `system: system:build`.")
    module = _import(name, directory)
    build = getattr(module, function, None)
    if not callable(build):
        raise SystemDefinitionError(f"{name} has no function {function!r}.", remedy="Correct `system` in run.yaml.")
    try:
        system = build()
    except OptimasError:
        raise
    except Exception as error:
        raise SystemDefinitionError(f"{where} raised {type(error).__name__}: {error}.", remedy="Call it yourself to see where.") from error
    if not isinstance(system, CompoundSystem):
        raise SystemDefinitionError(f"{where} returned {type(system).__name__}.", remedy="Return a CompoundSystem.")
    return system, module


def _import(name: str, directory: Path) -> Any:
    """Import from the project's directory first; a module of that name from another directory is loaded anew."""
    loaded = sys.modules.get(name)
    local = directory / (name.replace(".", "/") + ".py")
    if loaded is not None and local.is_file() and Path(getattr(loaded, "__file__", "") or "").resolve() != local.resolve():
        del sys.modules[name]
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))
    elif sys.path[0] != str(directory):
        sys.path.remove(str(directory))
        sys.path.insert(0, str(directory))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise SystemDefinitionError(
            f"the module {error.name!r} cannot be imported (looked in {directory}).", remedy="Correct `system` or install what it imports."
        ) from None
    except OptimasError:
        raise
    except Exception as error:
        raise SystemDefinitionError(f"importing {name} raised {type(error).__name__}: {error}.", remedy="Import it yourself.") from error


def _try_metric(system: CompoundSystem, split: Split) -> None:
    """A metric that returns NaN, or a value outside its range, is found before anything is paid for.

    Tried on empty texts; a metric that cannot read those is met again on the first real output.
    """
    outputs: Mapping[str, Any] = {name: "" for name in system.outputs}
    try:
        system.metric(split.train[0].fields, outputs)
    except Exception:
        return  # empty texts are no valid output of this system: nothing can be said yet
    low, high = system.metric_range
    value = system.score(split.train[0].fields, outputs)
    if not low <= value <= high:
        raise SystemDefinitionError(
            f"the metric returned {value:g}, outside metric_range {system.metric_range}.", remedy="Declare its range."
        )


def _set_prices(system: CompoundSystem, settings: RunSettings, proposing: Any) -> None:
    from optimas_core.models import Price

    clients = [client for item in system.components.values() for client in item.clients]
    for client in [*clients, proposing] if proposing is not None else clients:
        price = settings.prices.get(client.id)
        if price is not None:
            client.price = Price(price.usd_per_million_in, price.usd_per_million_out)
        if settings.budget.usd is not None and client.price is None:
            raise SpecError(
                f"budget.usd is set and the price of {client.id!r} is unknown.",
                remedy="Add it under `prices` in run.yaml (USD per million tokens in and out), or drop budget.usd.",
            )


def _opro_client(module: Any, settings: RunSettings) -> Any:
    """The client optimizers.opro_model names, None where it names none."""
    name = settings.optimizers.opro_model
    if name is None:
        return None
    client = getattr(module, name, None)
    if client is None or not hasattr(client, "complete"):
        raise SpecError(f"optimizers.opro_model = {name!r} is no model client in the system's module.", remedy="Name one there.")
    return client
