"""Compiled pipelines on a Kubernetes cluster: one KFP run for each, found again by its name after any restart."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from optimas_core.errors import PermanentError, TemporaryError
from optimas_core.launchers._pipelines import PipelineFailed, PipelineName, compiled
from optimas_core.launchers._pod_settings import with_pod_settings
from optimas_core.launchers.kfp_api import KfpApi, PodProblem, RunView, attempt_name, get_or_create_run

_POLL_S = 5.0


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """How runs of ours are started and watched. Times in seconds.

    `parameters`: what every pipeline is told of the cluster; each takes those it has, and all get the settings of `POD_SETTINGS`.
    `start_deadline_s`: how long a pod that cannot start is waited for, where room may come free; what a person must mend ends after
    `mend_deadline_s`.
    """

    experiment: str = "optimas"
    service_account: str = ""
    parameters: Mapping[str, Any] | None = None
    start_deadline_s: float = 1800.0
    mend_deadline_s: float = 120.0
    poll_s: float = _POLL_S


class KubeflowPipelines:
    """Executes pipelines as KFP runs. The caller holds the run's lease, so that nobody else creates a run of the same name.

    Args:
        api: the connection.
        settings: how.
        say: told what a person should know: states, pods that cannot start and why.
        check: called while waiting; what it raises ends the wait (the lease is lost, SIGTERM). The KFP run goes on.
    """

    def __init__(
        self,
        api: KfpApi,
        settings: ClusterSettings,
        *,
        say: Callable[[str], None] = lambda text: None,
        check: Callable[[], None] = lambda: None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._settings = settings
        self._say = say
        self._check = check
        self._sleep = sleep
        self._clock = clock

    def execute(self, pipeline: PipelineName, name: str, arguments: Mapping[str, Any]) -> None:
        """See `Executor`. A run of that name that lives or ended well is attached to; after one that failed a new one is started."""
        data = with_pod_settings(compiled(pipeline), self._settings.parameters or {})
        declared = _parameters(data)
        asked = {key: value for key, value in (self._settings.parameters or {}).items() if key in declared} | dict(arguments)
        experiment_id = self._api.ensure_experiment(self._settings.experiment)
        ids = self._api.ensure_pipeline_version(f"optimas-{pipeline.replace('_', '-')}", data)
        run = self._attached(name, experiment_id)
        if run is None:
            run, _ = get_or_create_run(
                self._api,
                name=self._free_name(name, experiment_id),
                experiment_id=experiment_id,
                pipeline=ids,
                parameters=asked,
                hold=nullcontext(),
                service_account=self._settings.service_account,
            )
        self._say(f"{run.name}: {self._api.link(run.run_id)}")
        ended = self._wait(run)
        if ended.state != "succeeded":
            why = ended.errors or self._api.failures(ended.run_id)
            raise PipelineFailed(f"{ended.name} {ended.state}{': ' + '; '.join(why[:2]) if why else ''}")

    def close(self) -> None:
        """Close the connection."""
        self._api.close()

    def _attempts(self, name: str, experiment_id: str) -> list[RunView]:
        """The runs of that name and of its repetitions, oldest first."""
        found: list[RunView] = []
        number = 1
        while runs := self._api.find_runs(attempt_name(name, number), experiment_id):
            found += runs
            number += 1
        return found

    def _attached(self, name: str, experiment_id: str) -> RunView | None:
        """A run of the name that still lives. One that ended is no help: its results would have been found."""
        alive = [run for run in self._attempts(name, experiment_id) if not run.finished and run.state != "canceling"]
        return alive[0] if alive else None

    def _free_name(self, name: str, experiment_id: str) -> str:
        number = 1
        while self._api.find_runs(attempt_name(name, number), experiment_id):
            number += 1
        return attempt_name(name, number)

    def _wait(self, run: RunView) -> RunView:
        """Raises: PermanentError: a pod of it cannot start."""
        told: set[str] = set()
        stuck_since: float | None = None
        while True:
            self._check()
            try:
                seen = self._api.get_run(run.run_id)
                if seen.finished:
                    return seen
                problems = self._api.pod_problems(run.run_id)
            except TemporaryError as error:  # a restarted API server: the run goes on without it
                self._say(f"still waiting: {error.message}")
                self._sleep(self._settings.poll_s)
                continue
            for problem in problems:
                if problem.sentence not in told:
                    told.add(problem.sentence)
                    self._say(problem.sentence)
            stuck_since = (self._clock() if stuck_since is None else stuck_since) if problems else None
            if stuck_since is not None and self._clock() - stuck_since >= self._deadline_s(problems):
                self._api.terminate_run(run.run_id)
                raise PermanentError(
                    f"{run.name} cannot start: {problems[0].sentence}", remedy="Mend that, or change the cluster's settings, and resume."
                )
            self._sleep(self._settings.poll_s)

    def _deadline_s(self, problems: tuple[PodProblem, ...]) -> float:
        person = any(problem.kind == "configuration" for problem in problems)
        return self._settings.mend_deadline_s if person else self._settings.start_deadline_s


def _parameters(data: bytes) -> set[str]:
    import yaml

    body = next(iter(yaml.safe_load_all(data)))
    return set((body["root"].get("inputDefinitions") or {}).get("parameters") or {})
