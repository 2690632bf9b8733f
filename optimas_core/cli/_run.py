"""`optimas run` and `optimas resume`."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from optimas_core._memory import few_arenas
from optimas_core._version import __version__
from optimas_core.artifacts import Lease, RunWorkspace, Workspace, pack_bundle, probe, put_bundle
from optimas_core.canonical import parse_json
from optimas_core.cli._progress import RunProgress
from optimas_core.cli._signals import Stopping, stop_on_sigterm
from optimas_core.controller import Controller, Launcher, RunState
from optimas_core.errors import ArtifactCorrupt, Interrupted, OptimasError, SpecError
from optimas_core.launchers import InProcessLauncher, LocalPipelines, PipelineLauncher, Placed, Renewal, check_again, renewal
from optimas_core.reporting import visible, write_report
from optimas_core.spec import BudgetSettings
from optimas_core.stages import (
    DriftRequest,
    Project,
    StageContext,
    check_backbone,
    check_models,
    lies_elsewhere,
    load_project,
    open_run,
    reopen_project,
)

_LEASE_WAIT_S = 45.0

LauncherName = Literal["in-process", "kfp-local"]


def optimize(
    run_yaml: Path,
    *,
    workspace: str | None,
    name: str | None,
    seed: int | None,
    must_exist: bool,
    check: bool,
    json_output: bool,
    launcher: LauncherName = "in-process",
    shards: int = 4,
    if_moved: bool = False,
) -> None:
    """Check everything, hold the run's lease, drive it to its end, write the report and print the verdict.

    `if_moved`: a new run from what is promoted, which ends at once where the drift check finds that nothing moved.

    Raises:
        UserError: bad input, before the first paid call.
        BudgetExhausted, Interrupted, LeaseLost: what was committed stays; resume goes on.
    """
    logging.getLogger("transformers").setLevel(logging.ERROR)  # its progress bars would tear ours
    few_arenas()
    project = load_project(run_yaml, name=name, seed=seed, workspace=workspace)
    opened = Workspace.open(project.workspace_url)
    probe(opened.store)
    if must_exist and opened.run(project.run_id).read_spec() is None:
        changed = " If its data at the source has changed since, name it with --name." if lies_elsewhere(project.settings.data) else ""
        raise SpecError(f"there is no run {project.run_id!r} in {opened.url}.", remedy=f"Start it with `optimas run`.{changed}")
    found = _renewal(project, opened, name, if_moved)
    project = found.project
    if check:
        check_backbone(project.settings)
        check_models(project.system, also=project.proposing)
    with RunProgress(project.settings.schedule.iterations) as progress, stop_on_sigterm() as stopping:

        def wait(seconds: float) -> None:
            progress("another process holds this run: waiting until it ends or gives no sign of life", 0, 0)
            time.sleep(seconds)
            stopping.check()

        lease = Lease(open_run(project, workspace=opened).run, sleep=wait)
        lease.acquire(wait_s=_LEASE_WAIT_S)
        try:
            # Only now read the ledger: the former holder may have spent while we waited.
            context = open_run(project, progress=progress, workspace=opened)
            stages = _launcher(launcher, context, opened, project.directory, shards)
            driven = _drive(context, stages, lease, stopping, progress, found.request)
        finally:
            lease.release()
    report, where = _standing_report(context.run, project.settings.budget) if driven.standing else (None, "")
    if report is None:
        try:
            report, where = write_report(context.run)
        except OptimasError as error:
            raise driven.failure or error from None  # a full disk stops the report too: what stopped the run is the news
    if json_output:
        print(json.dumps({"run_id": context.run.run_id, "verdict": report["verdict"], "report": where}, sort_keys=True))
    else:
        print(visible(report["verdict"]["line"]))
        print(f"Report: {where}")
    sys.stdout.flush()
    if driven.failure is not None:
        raise driven.failure


def _renewal(project: Project, workspace: Workspace, name: str | None, if_moved: bool) -> Renewal:
    """What runs: the project itself; or, where it begins or began with a drift check, the new run, whose id says when that was.

    Where such a run started from does not stand in run.yaml, so its frozen spec says it; a check that was cut short is asked for again.
    """
    run_id = (name or f"{project.run_id}-{datetime.now(UTC):%Y%m%d-%H%M%S}") if if_moved else project.run_id
    run = workspace.run(run_id)
    frozen = run.read_spec()
    if not if_moved and (frozen is None or not frozen.get("renewed")):
        return Renewal(project, None)
    stored = run.latest_state()
    if stored is not None and stored.index > 0:  # the check is done; its baseline may be gone by now
        found = Renewal(reopen_project(project.directory, workspace.url, run_id), None)
    else:
        found = renewal(workspace, project.settings, project.directory, project.system.name, run_id)
    now = {"budget": project.settings.budget, "concurrency": project.settings.concurrency}  # may be others than before
    return replace(found, project=replace(found.project, settings=found.project.settings.model_copy(update=now)))


def _check_drift(context: StageContext, lease: Lease, request: DriftRequest) -> None:
    """The check, while this process holds the run; what it finds is the run's first state."""
    context.budget.hold_back(2.0 * len(context.split.test))
    _, decision = asyncio.run(check_again(context, lease, request))
    print(f"drift check against run {visible(request.run)}: {visible(decision['reason'])}", file=sys.stderr)


@dataclass(frozen=True, slots=True)
class _Driven:
    """How far the run came: `went_on` says whether a state was appended, `failure` what stopped it."""

    went_on: bool
    failure: OptimasError | None

    @property
    def standing(self) -> bool:
        """It was finished before."""
        return not self.went_on and self.failure is None


def _drive(
    context: StageContext,
    launcher: ClosingLauncher,
    lease: Lease,
    stopping: Stopping,
    progress: RunProgress,
    drift: DriftRequest | None,
) -> _Driven:
    """Run to the end or to what stops it. What was committed and paid for stays."""
    went_on = False
    failure: OptimasError | None = None

    def before_call() -> None:
        stopping.check()
        lease.check()

    def on_state(state: RunState) -> None:
        nonlocal went_on
        went_on = True
        progress.on_state(state)
        if state.phase != "finished":
            stopping.check()

    context.before_commit = lease.check
    context.after_commit = stopping.check
    context.engine.before_call = before_call
    progress.attach(context.budget)
    try:
        with lease.keep():
            stopping.check()
            if drift is not None:
                _check_drift(context, lease, drift)
            Controller(context, launcher, lease, on_state=on_state).run()
    except KeyboardInterrupt:
        failure = Interrupted("interrupted by the keyboard.", remedy="Run `optimas resume`.")
    except OptimasError as error:
        failure = error
    finally:
        try:
            context.budget.flush()
        except OptimasError as error:  # the allowance taken ahead covers what could not be settled
            failure = failure or error
        launcher.close()
    return _Driven(went_on, failure)


class ClosingLauncher(Launcher, Protocol):
    """A launcher that holds something until it is closed."""

    def close(self) -> None:
        """Give it back."""


def _launcher(name: LauncherName, context: StageContext, workspace: Workspace, directory: Path, shards: int) -> ClosingLauncher:
    """Where the stages of this run are executed.

    Raises:
        SpecError: the project's code cannot be packed for tasks of their own.
        EnvironmentNotReady: what the launcher needs is not installed.
    """
    match name:
        case "in-process":
            return InProcessLauncher(context)
        case "kfp-local":
            inside = [Path(workspace.url.removeprefix("file://"))] if "://" not in workspace.url.removeprefix("file://") else []
            bundle = put_bundle(workspace, pack_bundle(directory, exclude=inside))
            return PipelineLauncher(context, LocalPipelines(), Placed(workspace.url, bundle, shards))


def _standing_report(run: RunWorkspace, caps: BudgetSettings) -> tuple[dict[str, Any] | None, str]:
    """The report of a finished run where it still says what a new one would: a new one reads every iteration's artifacts again.

    Nothing can follow the last state of a finished run, so its report only grows old with our version or with changed caps.
    """
    try:
        report = parse_json(run.read_file("report/report.json") or b"null")
        stands = (report["status"], report["versions"]["optimas"], report["budget"]) == ("finished", __version__, caps.model_dump())
        readable = isinstance(report["verdict"]["line"], str) and run.read_file("report/report.html") is not None
    except (ValueError, TypeError, KeyError, ArtifactCorrupt):  # absent, or not what we wrote
        return None, ""
    return (report, f"{run.uri}/report/report.html".removeprefix("file://")) if stands and readable else (None, "")
