"""`optimas submit`: a run is given to a cluster exactly once, however often and from wherever it is submitted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from optimas_core.artifacts import Conflict, Lease, RunWorkspace, Workspace, pack_bundle, probe, put_bundle
from optimas_core.deploy._compiled import CompiledPipeline
from optimas_core.deploy._parameters import Target, parameters_of
from optimas_core.deploy._record import Attempt, Submission, read_submission, record_id, write_submission
from optimas_core.errors import CallRejected, SpecError, TemporaryError
from optimas_core.launchers.kfp_api import KfpApi, NotFound, RunView, attempt_name, get_or_create_run
from optimas_core.stages import Project, open_run

_LEASE_WAIT_S = 60.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Submitted:
    """What became of a submission. `attached`: the cluster had it already."""

    run_id: str
    kfp_run: RunView
    link: str
    attached: bool


def submit(
    project: Project,
    api: KfpApi,
    *,
    pipeline: CompiledPipeline,
    settings: Mapping[str, Any],
    target: Target | None = None,
    run_file: str = "run.yaml",
    again: bool = False,
) -> Submitted:
    """Check all that can be checked from here, put code and frozen spec into the workspace, start the controller pipeline or find it.

    Raises:
        SpecError: the workspace is none a cluster can reach; a setting the pipeline does not have; another spec under this name.
        EnvironmentNotReady: the store or the server is not usable.
        LeaseHeld: a process drives this run right now, and not in the cluster.
    """
    target = target or Target()
    opened = reachable_workspace(project)
    parameters = parameters_of(project, pipeline, settings, target, "0" * 64)
    pipeline = pipeline.with_settings(settings)
    api.check(sdk_version=pipeline.sdk_version)
    probe(opened.store)
    run = open_run(project, workspace=opened).run
    bundle = put_bundle(opened, pack_bundle(project.directory, exclude=[project.directory / "workspace"], run_file=run_file))
    parameters["bundle"] = bundle
    return submit_run(api, run, pipeline=pipeline, parameters=parameters, bundle=bundle, target=target, again=again)


def submit_run(
    api: KfpApi,
    run: RunWorkspace,
    *,
    pipeline: CompiledPipeline,
    parameters: Mapping[str, Any],
    bundle: str,
    target: Target,
    again: bool = False,
) -> Submitted:
    """Start the controller's KFP run, or attach to the one that there is. `again`: one that failed or was canceled gets a successor.

    Raises:
        SpecError: it was submitted with other code, or to another installation.
    """
    ours = Submission(run.run_id, api.host, target.experiment, bundle, (Attempt(attempt_name(run.run_id, 1), _now()),))
    submission = _agreed(run, ours)
    there = _existing(api, submission, again=again)
    ended = there is not None and there.state in ("failed", "canceled")
    if there is None and not submission.last.kfp_run_id:
        submission = _renewed(api, run, submission, ours)  # never started: what is asked for now counts
    elif there is None or (again and ended):
        submission = _next_attempt(run, submission, bundle)
    elif submission.bundle != bundle:
        raise SpecError(
            f"run {run.run_id!r} was submitted with other code (bundle {submission.bundle[:12]}, now {bundle[:12]}).",
            remedy="Give this one another --name, or wait until that one has ended and go on with --again.",
        )
    if there is not None and submission.last.kfp_run_id in ("", there.run_id) and not (again and ended):
        record_id(run, submission.last.name, there.run_id)
        return Submitted(run.run_id, there, api.link(there.run_id), attached=True)
    experiment_id = api.ensure_experiment(submission.experiment)
    # What the controller starts belongs where `cancel` looks: an attempt after the first stays in the first one's experiment.
    told = {"experiment": submission.experiment} if "experiment" in pipeline.parameters else {}
    found, created = get_or_create_run(
        api,
        name=submission.last.name,
        experiment_id=experiment_id,
        pipeline=api.ensure_pipeline_version(pipeline.name, pipeline.data),
        parameters={**parameters, **told},
        hold=_held_for(run, submission),
        service_account=target.account_for(pipeline),
    )
    record_id(run, submission.last.name, found.run_id)
    return Submitted(run.run_id, found, api.link(found.run_id), attached=not created)


def follow(api: KfpApi, kfp_run_id: str, *, say: Say, interval_s: float = 10.0, sleep: Callable[[float], None] = time.sleep) -> RunView:
    """Wait for the end of a KFP run. Says what changes: its state, a server that is away, pods that cannot start and why."""
    state, told = "", set[str]()
    while True:
        try:
            run = api.get_run(kfp_run_id)
            if run.state != state:
                state = run.state
                say(f"{run.name}: {state}")
            if run.finished:
                return run
            for problem in api.pod_problems(kfp_run_id):
                if problem.sentence not in told:
                    told.add(problem.sentence)
                    say(problem.sentence)
        except TemporaryError as error:  # a restarted API server: the run goes on without it
            say(f"still waiting: {error.message}")
        sleep(interval_s)


def reachable_workspace(project: Project) -> Workspace:
    """Raises: SpecError: a directory of this machine, which no pod sees."""
    if not project.workspace_url.startswith("s3://"):
        raise SpecError(
            f"the workspace {project.workspace_url} is a directory of this machine; pods cannot reach it.",
            remedy="Set `workspace: s3://bucket/prefix` in run.yaml, or give --workspace.",
        )
    return Workspace.open(project.workspace_url)


@contextmanager
def held(run: RunWorkspace) -> Iterator[None]:
    """The run's lease while the block runs: whoever else submits or drives it waits, or is told who does."""
    # A submission holds it for a second or two: look often.
    lease = Lease(run, ttl_s=15.0, sleep=lambda seconds: time.sleep(min(seconds, 0.3)))
    lease.acquire(wait_s=_LEASE_WAIT_S)
    with lease.keep():
        yield


def _agreed(run: RunWorkspace, ours: Submission) -> Submission:
    """The record that is there, else ours: one of two at once wins."""
    while True:
        found = read_submission(run)
        if found is not None:
            return found[0]
        try:
            write_submission(run, ours, etag=None)
            return ours
        except Conflict:
            continue


def _existing(api: KfpApi, submission: Submission, *, again: bool) -> RunView | None:
    """The KFP run of the last attempt: by its id, or by its name where the id was never written; None where it was never started."""
    if not submission.last.kfp_run_id:
        experiment_id = api.find_experiment(submission.experiment)
        found = api.find_runs(submission.last.name, experiment_id) if experiment_id else ()
        return found[0] if found else None
    try:
        return api.get_run(submission.last.kfp_run_id)
    except NotFound:
        if again:
            return None
        raise SpecError(
            f"run {submission.run_id!r} was submitted to {submission.host}; {api.host} does not know it.",
            remedy="Give that installation's --host, or start the run here with --again.",
        ) from None


@contextmanager
def _held_for(run: RunWorkspace, submission: Submission) -> Iterator[None]:
    """The lease, while the record still says what we are about to do."""
    with held(run):
        found = read_submission(run)
        if found is None or not _alike(found[0], submission):
            raise Conflict(f"run {run.run_id!r} was submitted in another way at this moment.", remedy="Submit once more.")
        yield


def _renewed(api: KfpApi, run: RunWorkspace, seen: Submission, ours: Submission) -> Submission:
    """What an earlier submission wanted and never started is replaced by what this one wants."""
    wanted = replace(seen, host=ours.host, experiment=ours.experiment, bundle=ours.bundle)
    if _alike(seen, wanted):
        return seen
    with held(run):
        found = read_submission(run)
        if found is None or found[0] != seen or _existing(api, seen, again=False) is not None:
            raise Conflict(f"run {run.run_id!r} was submitted in another way at this moment.", remedy="Submit once more.")
        write_submission(run, wanted, etag=found[1])
    return wanted


def _alike(one: Submission, other: Submission) -> bool:
    return (one.experiment, one.bundle, one.last.name) == (other.experiment, other.bundle, other.last.name)


def _next_attempt(run: RunWorkspace, seen: Submission, bundle: str) -> Submission:
    """The record with one attempt more than `seen`, whoever adds it."""
    while True:
        found = read_submission(run)
        if found is None:
            raise CallRejected(f"{run.uri}/submission.json has gone meanwhile.", remedy="Submit once more.")
        submission, etag = found
        if len(submission.attempts) > len(seen.attempts):
            return submission
        attempt = Attempt(attempt_name(run.run_id, len(submission.attempts) + 1), _now())
        following = replace(submission, bundle=bundle, attempts=(*submission.attempts, attempt))
        try:
            write_submission(run, following, etag=etag)
            return following
        except Conflict:
            continue


def _now() -> str:
    return datetime.now(UTC).replace(microsecond=0).isoformat()
