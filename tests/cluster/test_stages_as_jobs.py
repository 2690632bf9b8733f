"""An iteration whose stages are plain Kubernetes Jobs over the cluster's S3, one of them killed: the bytes of one process.

One of them is started as Kubeflow Pipelines starts a component, so that the image is known to hold what that needs.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from optimas_core.artifacts import Lease, Workspace, pack_bundle, put_bundle
from optimas_core.controller import Controller, IterationPlan, IterationResult, RunState
from optimas_core.deploy import JobSettings, stage_job
from optimas_core.launchers._iteration import label, result_of
from optimas_core.launchers._pipelines import compiled
from optimas_core.launchers.in_process import InProcessLauncher
from optimas_core.stages import PreferenceRequest, generate_preferences, load_project, open_run

SCRIPTED = Path(__file__).parents[1] / "fixtures" / "scripted"
FOLDER = "/tmp/kfp"
RESULT = "result: "
COMMITTED = ("preferences", "proposals", "rankings", "validations", "configurations")


class WithoutRewardFunctions(InProcessLauncher):
    """The runtime image has no torch: the first data alone, candidates ranked by what was measured."""

    def warm_up(self, components: tuple[str, ...], configuration: str, examples: tuple[str, ...]) -> tuple[Mapping[str, str], str | None]:
        requests = {name: PreferenceRequest(0, (name,), configuration, examples) for name in components}
        return {name: self._run(generate_preferences(self._context, request)) for name, request in requests.items()}, None


class StagesAsJobs(WithoutRewardFunctions):
    """Every stage of an iteration is a Job; the pod of the one that measures is killed in the middle."""

    def __init__(self, context: Any, cluster: Any, settings: JobSettings, common: Mapping[str, str]) -> None:
        super().__init__(context)
        self._cluster, self._settings, self._common = cluster, settings, common
        self.killed = 0

    def iterate(self, plan: IterationPlan) -> IterationResult:
        state = len(list(self._context.run.states())) - 1
        proposals = self._job("propose-changes", component="propose", state=state)
        self._job("measure-preferences", kill=True, state=state, shard=0, shards=1)
        lrf = self._job("adapt-rewards", state=state, proposals=proposals)
        assert lrf == ""
        (mini_batch,) = self._run(self._labelled(plan, proposals))
        ranking = self._job("optimize-locally", state=state, proposals=proposals, lrf=lrf)
        validation = self._job("validate-choice", state=state, ranking=ranking) or None
        names = {"proposals": proposals, "mini_batch": mini_batch, "lrf": None, "ranking": ranking, "validation": validation}
        return result_of(self._context, plan, **names)

    async def _labelled(self, plan: IterationPlan, proposals: str) -> tuple[str]:
        return (await label(self._context, plan, proposals),)  # committed by the Jobs: only its name is derived here

    def _job(self, task: str, *, kill: bool = False, component: str = "", **arguments: str | int) -> str:
        """What the task returned; `component`: started as Kubeflow Pipelines starts that component of the iteration."""
        name = f"{task}-{arguments['state']}"
        given = {**self._common, **arguments}
        job = stage_job(name, task, given, self._settings)
        if component:
            job["spec"]["template"]["spec"]["containers"][0]["command"] = component_command(component, given)
        self._cluster.apply(job)
        if kill:
            self._kill(name)
        self._cluster.wait(f"job {name}", lambda: self._ended(name), 300.0)
        pods = self._cluster.pods_of(name)
        (done,) = [pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] == "Succeeded"]
        log: str = self._cluster.kubectl("logs", "-n", self._cluster.namespace, done)
        (result,) = [line.removeprefix(RESULT) for line in log.splitlines() if line.startswith(RESULT)]
        return result

    def _kill(self, name: str) -> None:
        """Once calls of it are kept, its pod goes without a word."""
        calls_before = calls_kept(self._context.run)

        def pod() -> Any:
            running = [item for item in self._cluster.pods_of(name) if item["status"].get("phase") == "Running"]
            return running[0]["metadata"]["name"] if running and calls_kept(self._context.run) > calls_before else None

        found = self._cluster.wait(f"calls of {name}", pod)
        self._cluster.kubectl("delete", "pod", found, "-n", self._cluster.namespace, "--grace-period=0", "--force")
        self.killed += 1
        assert not self._ended(name), "it was killed after its end: make the calls slower"

    def _ended(self, name: str) -> bool:
        status = self._cluster.get("job", name)["status"]
        if status.get("failed", 0) > 1 + self.killed:
            pods = self._cluster.pods_of(name)
            logs = [self._cluster.kubectl("logs", "-n", self._cluster.namespace, pod["metadata"]["name"], check=False) for pod in pods]
            pytest.fail(f"{name}: " + "\n---\n".join(logs))
        return bool(status.get("succeeded"))


def component_command(component: str, given: Mapping[str, str | int]) -> list[str]:
    """What the launcher of Kubeflow Pipelines executes for a component of the compiled iteration, and then its output."""
    pipeline = next(yaml.safe_load_all(compiled("iteration")))
    executor = pipeline["deploymentSpec"]["executors"][f"exec-{component}"]["container"]
    declared = pipeline["components"][f"comp-{component}"]["outputDefinitions"].get("artifacts", {})
    artifacts = {
        name: {"artifacts": [{"name": name, "type": item["artifactType"], "uri": f"{FOLDER}/{name}", "metadata": {}}]}
        for name, item in declared.items()
    }
    told = {
        "inputs": {"parameterValues": dict(given)},
        "outputs": {
            "parameters": {"Output": {"outputFile": f"{FOLDER}/output"}},
            "artifacts": artifacts,
            "outputFile": f"{FOLDER}/executor_output.json",
        },
    }
    arguments = [json.dumps(told) if item == "{{$}}" else item for item in executor["args"]]
    read = f"import json; print('{RESULT}' + json.load(open('{FOLDER}/executor_output.json'))['parameterValues']['Output'])"
    return ["sh", "-ec", f'"$@"; exec python -c "{read}"', "sh", *executor["command"], *arguments]


def calls_kept(run: Any) -> int:
    """Objects of the call cache of the run's workspace."""
    root = run.prefix.rpartition("/runs/")[0]
    return sum(1 for item in run.store.scan(f"{root}/calls/" if root else "calls/"))


def committed(run: Any) -> dict[str, bytes]:
    found = [item.key for kind in COMMITTED for item in run.store.scan(f"{run.prefix}/{kind}/")]
    blobs = {key: run.store.get(key) for key in found}
    return {key.removeprefix(run.prefix): blob.data for key, blob in blobs.items() if blob is not None}


def states(run: Any) -> list[RunState]:
    return [RunState.from_json(stored.data) for stored in run.states()]


@pytest.mark.timeout(1200)
def test_stages_as_jobs_commit_what_one_process_commits_though_a_pod_was_killed(
    cluster: Any, cluster_store: Any, runtime_image: str, tmp_path: Path
) -> None:
    directory = tmp_path / "project"
    shutil.copytree(SCRIPTED, directory, ignore=shutil.ignore_patterns("__pycache__"))
    spec = yaml.safe_load((directory / "run.yaml").read_text()) | {"name": "colours"}
    spec |= {"concurrency": 2, "schedule": {"iterations": 1, "selection": {"kind": "round_robin"}}}
    (directory / "run.yaml").write_text(yaml.safe_dump(spec))

    whole = open_run(load_project(directory / "run.yaml", workspace=str(tmp_path / "whole")))
    drive(whole, WithoutRewardFunctions(whole))

    address = f"s3://{cluster_store.bucket}/optimas"
    workspace = Workspace.open(address)
    workspace.run("colours").freeze_spec(whole.run.read_spec() or {})  # the same names and times
    context = open_run(load_project(directory / "run.yaml", workspace=address))
    bundle = put_bundle(workspace, pack_bundle(directory, run_file="run.yaml"))
    slow = {"SCRIPTED_LATENCY_S": "0.3"}
    settings = JobSettings(cluster.namespace, runtime_image, s3_secret=cluster_store.secret, environment=slow, cpu="1", memory="1Gi")
    jobs = StagesAsJobs(context, cluster, settings, {"workspace": address, "run_id": "colours", "bundle": bundle})
    begun = time.monotonic()
    drive(context, jobs)
    print(f"one iteration as Jobs: {time.monotonic() - begun:.0f} s")

    assert jobs.killed == 1
    assert committed(context.run) == committed(whole.run)
    assert states(context.run) == states(whole.run)


def drive(context: Any, launcher: InProcessLauncher) -> None:
    lease = Lease(context.run)
    lease.acquire()
    try:
        with lease.keep():
            Controller(context, launcher, lease).run()
    finally:
        launcher.close()
