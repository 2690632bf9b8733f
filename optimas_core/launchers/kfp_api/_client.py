"""The few calls of Kubeflow Pipelines' API that Optimas makes, each safe to be made twice."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from optimas_core.errors import CallRejected, EnvironmentNotReady, OptimasError, TemporaryError
from optimas_core.launchers.kfp_api._failures import LOG_TAIL_BYTES, failed_steps
from optimas_core.launchers.kfp_api._http import AlreadyThere, KfpHttp, NotFound
from optimas_core.launchers.kfp_api._names import checked_parameters, version_name
from optimas_core.launchers.kfp_api._pod_problems import PodProblem, problems_of
from optimas_core.launchers.kfp_api._views import PipelineIds, RecurringView, RunView, ServerInfo, recurring_view, run_view

T = TypeVar("T")

_API = "/apis/v2beta1"
# A listed run carries its whole pipeline: 42 kB each.
_PAGE = 10
_CHECK_S = 10.0


class KfpApi:
    """Kubeflow Pipelines as a client sees it. `namespace` is where runs belong in a multi-user installation, "" in a single-user one."""

    def __init__(self, http: KfpHttp, *, namespace: str = "") -> None:
        self._http = http
        self._namespace = namespace

    @property
    def host(self) -> str:
        return self._http.host

    def close(self) -> None:
        self._http.close()

    def check(self, *, sdk_version: str = "", deadline_s: float | None = None) -> ServerInfo:
        """Ask the server whether it is one, and which. `sdk_version` is what compiled the pipelines ("2.17.0").

        Raises:
            EnvironmentNotReady: nothing answers, something else does, or the server is older than the SDK.
            AuthenticationFailed: it wants to know who asks.
        """
        deadline_s = _CHECK_S if deadline_s is None else deadline_s
        try:
            body = self._http.get(f"{_API}/healthz", deadline_s=deadline_s)
            if not body.get("tag_name"):  # servers before 2.17 tell it in the older call only
                body = {**self._http.get("/apis/v1beta1/healthz", deadline_s=deadline_s), **body}
        except NotFound as error:
            raise EnvironmentNotReady(f"no Kubeflow Pipelines 2 there: {error.message}", remedy="Correct --host.") from None
        except TemporaryError as error:  # before anything was begun, a wrong address is likelier than a server that is away
            raise EnvironmentNotReady(error.message, remedy=error.remedy or "Correct --host.") from error
        info = ServerInfo(version=str(body.get("tag_name") or ""), multi_user=body.get("multi_user") is True)
        server, sdk = _numbers(info.version), _numbers(sdk_version)
        if server and sdk and sdk[:2] > server[:2]:
            raise EnvironmentNotReady(
                f"{self.host} runs Kubeflow Pipelines {info.version}, but our pipelines were compiled with kfp {sdk_version}.",
                remedy=f"Upgrade the installation to {sdk[0]}.{sdk[1]} or later.",
            )
        if info.multi_user and not self._namespace:
            raise EnvironmentNotReady(f"{self.host} serves many users.", remedy="Name your profile's namespace with --namespace.")
        return info

    def ensure_experiment(self, name: str) -> str:
        """The id of the experiment, made if it is not there.

        Raises:
            AuthenticationFailed: no right to make experiments in the namespace.
        """
        found = self._experiment(name)
        if found:
            return found
        try:
            body = {"display_name": name, "namespace": self._namespace}
            return str(self._http.post(f"{_API}/experiments", body=body)["experiment_id"])
        except AlreadyThere:
            found = self._experiment(name)
            if found:
                return found
            raise

    def find_experiment(self, name: str) -> str | None:
        return self._experiment(name)

    def ensure_pipeline_version(self, name: str, yaml: bytes) -> PipelineIds:
        """Upload `yaml` as a version of pipeline `name`, unless that content is there already."""
        pipeline_id = self._pipeline(name)
        if pipeline_id is None:
            try:
                body = {"name": name, "display_name": name, "namespace": self._namespace}
                pipeline_id = str(self._http.post(f"{_API}/pipelines", body=body)["pipeline_id"])
            except AlreadyThere:  # someone made it a moment ago, or our own first try did
                pipeline_id = self._pipeline(name)
                if pipeline_id is None:
                    raise
        version = version_name(name, yaml)
        found = self._version(pipeline_id, version)
        if found is None:
            query = {"pipelineid": pipeline_id, "name": version}
            try:
                made = self._http.persist(
                    lambda left_s: self._http.once("POST", f"{_API}/pipelines/upload_version", query=query, upload=yaml, timeout_s=left_s)
                )
                found = str(made.get("pipeline_version_id") or "") or None
            except AlreadyThere:
                pass
            except CallRejected as error:  # the upload endpoint answers 400 also where a right is missing
                raise CallRejected(
                    f"pipeline version {version} was not taken: {error.message}",
                    remedy="See whether you may create pipelines there and whether the server is as new as our pipelines.",
                ) from error
            found = found or self._version(pipeline_id, version)
        if found is None:
            raise CallRejected(f"pipeline version {version} was uploaded but cannot be found.", remedy="Look at the API server's log.")
        return PipelineIds(pipeline_id, found, version)

    def find_runs(self, name: str, experiment_id: str) -> tuple[RunView, ...]:
        """All runs of exactly this name, oldest first: names are not unique."""
        runs = [run for run in self._runs(experiment_id, [("EQUALS", "name", name)]) if run.name == name]
        return tuple(sorted(runs, key=lambda run: (run.created_at, run.run_id)))

    def list_runs(self, experiment_id: str, prefix: str) -> Iterator[RunView]:
        """Runs whose names begin with `prefix`, in small pages."""
        predicates = [("IS_SUBSTRING", "name", prefix)] if prefix else []
        return (run for run in self._runs(experiment_id, predicates) if run.name.startswith(prefix))

    def runs_of_recurring(self, recurring_id: str, experiment_id: str) -> Iterator[RunView]:
        return self._runs(experiment_id, [("EQUALS", "recurring_run_id", recurring_id)])

    def create_run_once(
        self,
        *,
        name: str,
        experiment_id: str,
        pipeline: PipelineIds,
        parameters: Mapping[str, Any],
        service_account: str = "",
        timeout_s: float = 30.0,
    ) -> RunView:
        """One try to start a run. A second try could start a second run: use `get_or_create_run`.

        Caching cannot be switched off here (the server ignores it with a pipeline id): the pipelines are compiled without it.

        Raises:
            SpecError: a parameter that is too large. TemporaryError: it may have been started nevertheless.
        """
        body = _what(name, experiment_id, pipeline, parameters, service_account)
        return run_view(self._http.once("POST", f"{_API}/runs", body=body, timeout_s=timeout_s))

    def get_run(self, run_id: str) -> RunView:
        """Raises: NotFound."""
        return run_view(self._http.get(f"{_API}/runs/{_id(run_id)}"))

    def terminate_run(self, run_id: str) -> None:
        """Ask for its end; nothing happens to a run that has ended or is ending."""
        try:
            self._http.post(f"{_API}/runs/{_id(run_id)}:terminate")
        except (AlreadyThere, CallRejected):
            run = self.get_run(run_id)  # "Row not found" is what it says of a run that has ended or is ending
            if not run.finished and run.state != "canceling":
                raise

    def pod_problems(self, run_id: str) -> tuple[PodProblem, ...]:
        """What keeps pods of this run from starting; empty too where the server has no v1beta1 any more, the only API that tells."""
        try:
            return problems_of(self._http.get(f"/apis/v1beta1/runs/{_id(run_id)}"))
        except CallRejected:
            return ()

    def failures(self, run_id: str, most: int = 3) -> tuple[str, ...]:
        """Why a run failed, one sentence for each step that did, at most so many; empty where the server cannot tell."""
        try:
            steps = failed_steps(self._http.get(f"/apis/v1beta1/runs/{_id(run_id)}"))[:most]
        except OptimasError:  # it is told that the run failed, with or without the reason
            return ()
        return tuple(step.sentence(self._log(run_id, step.node)) for step in steps)

    def _log(self, run_id: str, node: str) -> str:
        try:
            return self._http.end_of_text(f"/apis/v1alpha1/runs/{_id(run_id)}/nodes/{_id(node, 253)}/log", LOG_TAIL_BYTES)
        except OptimasError:  # the pod has gone and its log was not kept, or we may not read it
            return ""

    def find_recurring(self, experiment_id: str, name: str | None = None) -> tuple[RecurringView, ...]:
        """Recurring runs of the experiment (of exactly that name), oldest first: names are not unique."""
        predicates = [("EQUALS", "name", name)] if name is not None else []
        query = {"experiment_id": experiment_id, "page_size": _PAGE, **_filter(predicates)}
        found = [recurring_view(body) for body in self._pages(f"{_API}/recurringruns", "recurringRuns", query)]
        named = [item for item in found if name is None or item.name == name]
        return tuple(sorted(named, key=lambda item: (item.created_at, item.recurring_id)))

    def create_recurring_once(
        self,
        *,
        name: str,
        experiment_id: str,
        pipeline: PipelineIds,
        parameters: Mapping[str, Any],
        cron: str,
        description: str,
        service_account: str = "",
        timeout_s: float = 30.0,
    ) -> RecurringView:
        """One try; no catch-up and one run at a time, or a backlog grows when a run outlasts its interval."""
        body = _what(name, experiment_id, pipeline, parameters, service_account) | {
            "description": description,
            "max_concurrency": "1",
            "no_catchup": True,
            "mode": "ENABLE",
            "trigger": {"cron_schedule": {"cron": cron}},
        }
        if self._namespace:
            body["namespace"] = self._namespace
        return recurring_view(self._http.once("POST", f"{_API}/recurringruns", body=body, timeout_s=timeout_s))

    def enable_recurring(self, recurring_id: str) -> None:
        self._http.post(f"{_API}/recurringruns/{_id(recurring_id)}:enable")

    def disable_recurring(self, recurring_id: str) -> None:
        self._http.post(f"{_API}/recurringruns/{_id(recurring_id)}:disable")

    def delete_recurring(self, recurring_id: str) -> None:
        """The server also removes the Workflow of its running run, which then says RUNNING for ever: see that none runs."""
        try:
            self._http.delete(f"{_API}/recurringruns/{_id(recurring_id)}")
        except NotFound:
            return  # an earlier try did it

    def persist(self, attempt: Callable[[float], T]) -> T:
        """`attempt(seconds left)` until it gives an answer or the deadline passes: for creations that look before they create."""
        return self._http.persist(attempt)

    def link(self, run_id: str) -> str:
        """Where a person sees the run: the UI serves below the same address, where it serves."""
        return f"{self.host.removesuffix('/pipeline')}/{'pipeline/' if self.host.endswith('/pipeline') else ''}#/runs/details/{run_id}"

    def _experiment(self, name: str) -> str | None:
        query = {"page_size": _PAGE, **_filter([("EQUALS", "name", name)]), **self._in_namespace()}
        for body in self._pages(f"{_API}/experiments", "experiments", query):
            if body.get("display_name") == name and body.get("storage_state") != "ARCHIVED":
                return str(body["experiment_id"])
        return None

    def _pipeline(self, name: str) -> str | None:
        query = {"page_size": _PAGE, **_filter([("EQUALS", "name", name)]), **self._in_namespace()}
        for body in self._pages(f"{_API}/pipelines", "pipelines", query):
            if name in (body.get("name"), body.get("display_name")):
                return str(body["pipeline_id"])
        return None

    def _version(self, pipeline_id: str, version: str) -> str | None:
        query = {"page_size": _PAGE, **_filter([("EQUALS", "name", version)])}
        for body in self._pages(f"{_API}/pipelines/{_id(pipeline_id)}/versions", "pipeline_versions", query):
            if version in (body.get("name"), body.get("display_name")):
                return str(body["pipeline_version_id"])
        return None

    def _runs(self, experiment_id: str, predicates: list[tuple[str, str, str]]) -> Iterator[RunView]:
        query = {"experiment_id": experiment_id, "page_size": _PAGE, **_filter(predicates)}
        return (run_view(body) for body in self._pages(f"{_API}/runs", "runs", query))

    def _pages(self, path: str, key: str, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        token = ""
        while True:
            body = self._http.get(path, query={**query, **({"page_token": token} if token else {})})
            items = body.get(key)  # absent or null where nothing matches
            yield from (item for item in items if isinstance(item, dict)) if isinstance(items, list) else ()
            following = body.get("next_page_token")
            if not isinstance(following, str) or following in ("", token):
                return
            token = following

    def _in_namespace(self) -> dict[str, str]:
        return {"namespace": self._namespace} if self._namespace else {}


def _what(name: str, experiment_id: str, pipeline: PipelineIds, parameters: Mapping[str, Any], service_account: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "display_name": name,
        "experiment_id": experiment_id,
        "pipeline_version_reference": {"pipeline_id": pipeline.pipeline_id, "pipeline_version_id": pipeline.version_id},
        "runtime_config": {"parameters": checked_parameters(parameters)},
    }
    return body | ({"service_account": service_account} if service_account else {})


def _filter(predicates: list[tuple[str, str, str]]) -> dict[str, str]:
    if not predicates:
        return {}
    found = [{"operation": operation, "key": key, "stringValue": value} for operation, key, value in predicates]
    return {"filter": json.dumps({"predicates": found}, separators=(",", ":"))}


def _id(value: str, most: int = 64) -> str:
    """Raises: CallRejected: no id of a server: it would lead to another address."""
    if not re.fullmatch(rf"[A-Za-z0-9-]{{1,{most}}}", value):
        raise CallRejected(f"{value[:80]!r} is no id of Kubeflow Pipelines.")
    return value


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"v?(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else ()
