"""`optimas cancel`: the controller first, so that it starts nothing more, then what it had started, until nothing is left."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from optimas_core.artifacts import RunWorkspace
from optimas_core.deploy._record import read_submission
from optimas_core.errors import CallTimeout, SpecError
from optimas_core.launchers import read_kfp_run
from optimas_core.launchers.kfp_api import KfpApi, NotFound, RunView, child_prefix, is_child_run


@dataclass(frozen=True, slots=True)
class Canceled:
    """Names of the KFP runs that were told to end; empty where all had ended before."""

    names: tuple[str, ...]


def cancel(
    run: RunWorkspace,
    api: KfpApi,
    *,
    wait_s: float = 300.0,
    interval_s: float = 2.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Canceled:
    """End the run on its cluster. What it committed stays, and `optimas resume` or `submit --again` goes on from there.

    Stopping a KFP run stops its own pods only: what the controller submitted are runs of their own. A terminated pod may still submit
    one more in its last seconds, so children are listed again after the controller has really ended.

    Raises:
        SpecError: it was never submitted, or not to this installation.
        CallTimeout: some had not ended after `wait_s`; names them.
    """
    controllers, experiment_id = _controllers(api, run)
    until = clock() + wait_s
    told: dict[str, str] = {}
    while True:
        parents = _unfinished(controllers())
        _terminate(api, parents, told)
        children = [item for item in api.list_runs(experiment_id, child_prefix(run.run_id)) if is_child_run(item.name, run.run_id)]
        left = _unfinished(children)
        _terminate(api, left, told)
        if not parents and not left:
            return Canceled(tuple(sorted(told.values())))
        if clock() >= until:
            names = ", ".join(sorted(item.name for item in (*parents, *left)))
            raise CallTimeout(
                f"not ended after {wait_s:g} s: {names}.", remedy="They were told to; look at their pods, or cancel once more."
            )
        sleep(interval_s)


def _controllers(api: KfpApi, run: RunWorkspace) -> tuple[Callable[[], list[RunView]], str]:
    """How to look at the KFP runs that drive the run, and the id of their experiment."""
    found = read_submission(run)
    if found is None:
        return _scheduled(api, run)
    submission = found[0]
    experiment_id = api.find_experiment(submission.experiment)
    if experiment_id is None:
        raise SpecError(
            f"{api.host} has no experiment {submission.experiment!r}; run {run.run_id!r} was submitted to {submission.host}.",
            remedy="Give that installation's --host and --namespace.",
        )
    # Every attempt, by name, since an id may never have been written.
    return lambda: [item for attempt in submission.attempts for item in api.find_runs(attempt.name, experiment_id)], experiment_id


def _scheduled(api: KfpApi, run: RunWorkspace) -> tuple[Callable[[], list[RunView]], str]:
    """The one KFP run that a schedule started: its first task wrote its id down."""
    kfp_run_id = read_kfp_run(run)
    if kfp_run_id is None:
        raise SpecError(f"run {run.run_id!r} was never submitted to a cluster.", remedy="`optimas status` shows who drives it.")
    try:
        first = api.get_run(kfp_run_id)
    except NotFound:
        raise SpecError(
            f"{api.host} has no run {kfp_run_id}, which a schedule started for {run.run_id!r}.",
            remedy="Give that installation's --host and --namespace.",
        ) from None
    return lambda: [api.get_run(kfp_run_id)], first.experiment_id


def _unfinished(runs: list[RunView]) -> list[RunView]:
    return [run for run in runs if not run.finished]


def _terminate(api: KfpApi, runs: list[RunView], told: dict[str, str]) -> None:
    for run in runs:
        if run.state != "canceling":
            api.terminate_run(run.run_id)
            told[run.run_id] = run.name
