"""`optimas schedule`: one recurring run of a name, however often it is set.

Names of recurring runs are not unique, and deleting one takes the Workflow of its running run with it, which then says RUNNING for
ever. So an old one is disabled, and deleted only when nothing of it runs; until then it stays, and the next `schedule` removes it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Literal

from optimas_core.artifacts import Workspace, pack_bundle, probe, put_bundle
from optimas_core.canonical import digest
from optimas_core.deploy._compiled import CompiledPipeline
from optimas_core.deploy._cron import Cron
from optimas_core.deploy._parameters import Target, parameters_of
from optimas_core.deploy._submit import held, reachable_workspace
from optimas_core.errors import SpecError
from optimas_core.launchers.kfp_api import KfpApi, PipelineIds, RecurringView, checked_parameters
from optimas_core.stages import Project, open_run

_MARK = "optimas schedule "


@dataclass(frozen=True, slots=True)
class Scheduled:
    """What became of it. `finishing` are older ones, disabled, whose last run still goes."""

    name: str
    action: Literal["created", "replaced", "unchanged"]
    recurring_id: str
    finishing: tuple[str, ...] = ()


def schedule(
    project: Project,
    api: KfpApi,
    *,
    name: str,
    cron: Cron,
    pipeline: CompiledPipeline,
    settings: Mapping[str, Any],
    target: Target | None = None,
    run_file: str = "run.yaml",
    wait_s: float = 0.0,
) -> Scheduled:
    """Check as `submit` does, put code and spec into the workspace, and set the recurring run. Raises: as `submit`."""
    target = target or Target()
    # Never under run.yaml's own `name`: changed code is another base run, and a schedule may be replaced by one of changed code.
    project = replace(project, settings=project.settings.model_copy(update={"name": None}))
    opened = reachable_workspace(project)
    parameters = parameters_of(project, pipeline, settings, target, "0" * 64)
    pipeline = pipeline.with_settings(settings)
    server = api.check(sdk_version=pipeline.sdk_version)
    probe(opened.store)
    open_run(project, workspace=opened)  # its frozen spec is what each run of the schedule starts from
    bundle = put_bundle(opened, pack_bundle(project.directory, exclude=[project.directory / "workspace"], run_file=run_file))
    experiment_id = api.ensure_experiment(target.experiment)
    return set_schedule(
        api,
        name=name,
        cron=cron,
        experiment_id=experiment_id,
        pipeline=api.ensure_pipeline_version(pipeline.name, pipeline.data),
        parameters=parameters | {"bundle": bundle},
        service_account=target.account_for(pipeline),
        # A schedule keeps the launcher images of the day it was made: another server version is another schedule.
        made_for=server.version,
        hold=schedule_lease(opened, name),
        wait_s=wait_s,
    )


def schedule_lease(workspace: Workspace, name: str) -> AbstractContextManager[None]:
    """Keeps a second `schedule` of that name out."""
    return held(workspace.run(f"schedule-{name}"))


def set_schedule(
    api: KfpApi,
    *,
    name: str,
    cron: Cron,
    experiment_id: str,
    pipeline: PipelineIds,
    parameters: Mapping[str, Any],
    service_account: str,
    made_for: str,
    hold: AbstractContextManager[object],
    wait_s: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Scheduled:
    """Make the one enabled recurring run of `name` be this. `wait_s`: how long to wait for a running run of an old one.

    Raises:
        SpecError: a parameter that is too large; nothing was sent.
    """
    checked_parameters(parameters)
    identity = digest([cron.text, dict(parameters), pipeline.version_name, service_account, made_for])
    mark = f"{_MARK}{identity}"
    with hold:
        there = api.find_recurring(experiment_id, name)
        same = [item for item in there if item.description == mark and item.enabled]
        others = [item for item in there if not same or item.recurring_id != same[0].recurring_id]
        finishing = _retire(api, others, experiment_id, clock() + wait_s, clock, sleep)
        if same:
            return Scheduled(name, "unchanged", same[0].recurring_id, finishing)

        def attempt(left_s: float) -> RecurringView:
            made = [item for item in api.find_recurring(experiment_id, name) if item.description == mark and item.enabled]
            if made:  # an earlier try whose answer was lost
                return made[0]
            return api.create_recurring_once(
                name=name,
                experiment_id=experiment_id,
                pipeline=pipeline,
                parameters=parameters,
                cron=cron.text,
                description=mark,
                service_account=service_account,
                timeout_s=left_s,
            )

        made = api.persist(attempt)
        return Scheduled(name, "replaced" if there else "created", made.recurring_id, finishing)


def schedules(api: KfpApi, experiment: str) -> tuple[RecurringView, ...]:
    """The recurring runs that Optimas made in the experiment, oldest first."""
    experiment_id = api.find_experiment(experiment)
    found = api.find_recurring(experiment_id) if experiment_id else ()
    return tuple(item for item in found if item.description.startswith(_MARK))


def pause(api: KfpApi, experiment: str, name: str) -> None:
    """No further run starts; a running one goes on. Raises: SpecError: there is no such schedule."""
    for item in _named(api, experiment, name):
        api.disable_recurring(item.recurring_id)


def resume(api: KfpApi, experiment: str, name: str) -> None:
    """The newest of that name starts runs again; older ones, if any are left, stay off. Raises: SpecError: there is no such schedule."""
    *older, newest = _named(api, experiment, name)
    for item in older:
        api.disable_recurring(item.recurring_id)
    api.enable_recurring(newest.recurring_id)


def remove(
    api: KfpApi,
    experiment: str,
    name: str,
    *,
    wait_s: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[str, ...]:
    """Delete the schedule. Returns the ids of those that stay, disabled, until their running run has ended.

    Raises:
        SpecError: there is no such schedule.
    """
    found = _named(api, experiment, name)
    experiment_id = api.find_experiment(experiment) or ""
    return _retire(api, list(found), experiment_id, clock() + wait_s, clock, sleep)


def _named(api: KfpApi, experiment: str, name: str) -> tuple[RecurringView, ...]:
    experiment_id = api.find_experiment(experiment)
    found = api.find_recurring(experiment_id, name) if experiment_id else ()
    if not found:
        raise SpecError(f"there is no schedule {name!r} in experiment {experiment!r}.", remedy="`optimas schedule --list` shows them.")
    return found


def _retire(
    api: KfpApi,
    items: list[RecurringView],
    experiment_id: str,
    until: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> tuple[str, ...]:
    """Disable all, delete those of which nothing runs; waits for the others until `until`. Returns the ids that stay."""
    for item in items:
        if item.enabled:
            api.disable_recurring(item.recurring_id)
    left = [item.recurring_id for item in items]
    while True:
        busy = [recurring_id for recurring_id in left if any(_unfinished(api, recurring_id, experiment_id))]
        for recurring_id in left:
            if recurring_id not in busy:
                api.delete_recurring(recurring_id)
        left = busy
        if not left or clock() >= until:
            return tuple(left)
        sleep(min(5.0, max(0.1, until - clock())))


def _unfinished(api: KfpApi, recurring_id: str, experiment_id: str) -> Iterator[str]:
    return (run.run_id for run in api.runs_of_recurring(recurring_id, experiment_id) if not run.finished)
