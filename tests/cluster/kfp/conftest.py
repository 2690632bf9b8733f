"""What the tests on a real Kubeflow Pipelines share: its API, our accounts and secrets beside it, a counted model, a run to compare with.

Without OPTIMAS_KFP_HOST all of them are skipped.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from optimas_core.artifacts import Workspace, pack_bundle, put_bundle
from optimas_core.controller import RunState
from optimas_core.deploy import AccessSettings, access_manifests
from optimas_core.launchers.kfp_api import KfpApi, KfpHost, RunView, connect
from optimas_core.stages import load_project, open_run

PROGRAMS = Path(__file__).resolve().parents[3] / "benchmarks" / "_kfp"
EXAMPLES = Path(__file__).parents[2] / "fixtures" / "scripted" / "examples.jsonl"
COMMITTED = ("preferences", "lrf", "proposals", "rankings", "validations", "configurations")
LLM_KEY = "endpoint-key"
LATENCY_MS = 600  # long enough to kill who waits
ENDED = ("Succeeded", "Failed")


@pytest.fixture(scope="session")
def kfp_host() -> str:
    found = os.environ.get("OPTIMAS_KFP_HOST")
    if not found:
        pytest.skip("OPTIMAS_KFP_HOST names no Kubeflow Pipelines")
    return found


@pytest.fixture(scope="session")
def kfp_namespace(kfp_host: str) -> str:
    """Where the pods of runs are."""
    return os.environ.get("OPTIMAS_KFP_NAMESPACE") or "kubeflow"


@pytest.fixture(scope="session")
def api(kfp_host: str) -> Iterator[KfpApi]:
    with connect(KfpHost(kfp_host)) as found:
        yield found


@pytest.fixture(scope="session")
def accounts(cluster: Any, kfp_namespace: str) -> None:
    """`optimas manifests`, as a user applies it. They stay: another session, or a user's run, may lean on them."""
    cluster.apply(*access_manifests(AccessSettings(kfp_namespace)))


@dataclass(frozen=True)
class Endpoint:
    """A model in the cluster that counts what it is asked, for each label apart."""

    cluster: Any
    namespace: str

    def address(self, label: str, latency_ms: int) -> str:
        return f"http://scripted.{self.namespace}.svc.cluster.local:8000/{label}/{latency_ms}/v1"

    def asked(self, label: str) -> Counter[str]:
        """Digest of a body -> how often it came in: each time is paid for."""
        path = f"/api/v1/namespaces/{self.namespace}/pods/scripted:8000/proxy/{label}/log"
        return Counter(json.loads(self.cluster.kubectl("get", "--raw", path)))


@pytest.fixture(scope="session")
def endpoint(cluster: Any, runtime_image: str) -> Endpoint:
    program = {"endpoint.py": (PROGRAMS / "endpoint.py").read_text(encoding="utf-8")}
    container = {
        "name": "endpoint",
        "image": runtime_image,
        "command": ["python", "/program/endpoint.py", "8000"],
        "readinessProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1},
        "volumeMounts": [{"name": "program", "mountPath": "/program"}],
    }
    place = {"name": "scripted", "namespace": cluster.namespace}
    pod = {"containers": [container], "volumes": [{"name": "program", "configMap": {"name": "scripted"}}]}
    cluster.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": place, "data": program},
        {"apiVersion": "v1", "kind": "Pod", "metadata": place | {"labels": {"app": "scripted"}}, "spec": pod},
        {"apiVersion": "v1", "kind": "Service", "metadata": place, "spec": {"selector": {"app": "scripted"}, "ports": [{"port": 8000}]}},
    )
    cluster.kubectl("wait", "--for=condition=Ready", "pod/scripted", "-n", cluster.namespace, "--timeout=60s")
    return Endpoint(cluster, cluster.namespace)


@dataclass(frozen=True)
class Whole:
    """A run that one process did in a pod of the same image: what the same run on the cluster must come to."""

    project: Path
    spec: dict[str, Any]
    committed: dict[str, bytes]
    states: list[RunState]
    asked: Counter[str]


@dataclass
class OnKfp:
    """`optimas` from this machine against the cluster's Kubeflow Pipelines, and a look at its pods."""

    cluster: Any
    api: KfpApi
    host: str
    namespace: str
    bucket: str
    settings: dict[str, str]
    endpoint: Endpoint
    experiment: str

    def project(self, folder: Path, label: str, latency_ms: int = 0) -> Path:
        """The scripted system with the endpoint of that label; returns its run.yaml."""
        folder.mkdir()
        for name in ("system.py", "run.yaml"):
            (folder / name).write_text((PROGRAMS / "project" / name).read_text(encoding="utf-8"), encoding="utf-8")
        (folder / "examples.jsonl").write_bytes(EXAMPLES.read_bytes())
        (folder / "endpoint.txt").write_text(self.endpoint.address(label, latency_ms), encoding="utf-8")
        return folder / "run.yaml"

    def workspace(self, prefix: str) -> str:
        return f"s3://{self.bucket}/{prefix}"

    def command(self, run_yaml: Path, workspace: str, *options: str, settings: dict[str, str] | None = None) -> list[str]:
        """`optimas submit` as a child process runs it."""
        given = [part for name, value in (self.settings | (settings or {})).items() for part in ("--set", f"{name}={value}")]
        place = ["--host", self.host, "--experiment", self.experiment, "--workspace", workspace, "--json"]
        return [sys.executable, "-m", "optimas_core.cli", "submit", str(run_yaml), *place, *given, *options]

    def submit(self, run_yaml: Path, workspace: str, *options: str, settings: dict[str, str] | None = None) -> dict[str, Any]:
        done = subprocess.run(
            self.command(run_yaml, workspace, *options, settings=settings), capture_output=True, text=True, check=False, timeout=900
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def cancel(self, workspace: str, run_id: str) -> subprocess.CompletedProcess[str]:
        place = ["--host", self.host, "--json"]
        command = [sys.executable, "-m", "optimas_core.cli", "cancel", workspace, run_id, *place]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=400)

    def in_one_process(self, run_yaml: Path, workspace: str, run_id: str) -> dict[str, Any]:
        """The run in a pod of the image that stages have; returns the frozen spec."""
        run = open_run(load_project(run_yaml, workspace=workspace)).run
        bundle = put_bundle(Workspace.open(workspace), pack_bundle(run_yaml.parent, run_file="run.yaml"))
        program = (PROGRAMS / "one_process.py").read_text(encoding="utf-8")
        container = {
            "name": "whole",
            "image": self.settings["train_image"],
            "command": ["python", "-c", program, workspace, run_id, bundle],
            "envFrom": [{"secretRef": {"name": self.settings[name]}} for name in ("s3_secret", "llm_secret")],
            "resources": {"limits": {"cpu": self.settings["cpu"], "memory": self.settings["memory"]}},
        }
        name, kubectl = f"{self.experiment}-{secrets.token_hex(3)}", self.cluster.kubectl
        metadata = {"name": name, "namespace": self.namespace}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"restartPolicy": "Never", "containers": [container]}}
        self.cluster.apply(pod)

        def phase() -> str | None:
            found = json.loads(kubectl("get", "pod", name, "-n", self.namespace, "-o", "json"))["status"].get("phase", "")
            return found if found in ENDED else None

        try:
            ended = self.cluster.wait("the run in one process", phase, 900.0)
            assert ended == "Succeeded", kubectl("logs", "-n", self.namespace, name)
        finally:
            kubectl("delete", "pod", name, "-n", self.namespace, "--wait=false", check=False)
        return run.read_spec() or {}

    def outcome(self, workspace: str, run_id: str = "colours") -> tuple[dict[str, bytes], list[RunState]]:
        """What was committed there, and the states."""
        run = Workspace.open(workspace).run(run_id)
        return committed(run), states(run)

    def runs(self, prefix: str = "") -> list[RunView]:
        """KFP runs of this test's experiment."""
        experiment_id = self.api.find_experiment(self.experiment)
        return sorted(self.api.list_runs(experiment_id, prefix), key=lambda run: run.created_at) if experiment_id else []

    def pods(self, kfp_run_id: str) -> list[dict[str, Any]]:
        listed = self.cluster.kubectl("get", "pods", "-n", self.namespace, "-l", f"pipeline/runid={kfp_run_id}", "-o", "json")
        items: list[dict[str, Any]] = json.loads(listed)["items"]
        return items

    def running_pod(self, run_name: str, task: str) -> str | None:
        """The pod in which that task of that KFP run executes right now."""
        for pod in (pod for run in self.runs(run_name) if run.name == run_name for pod in self.pods(run.run_id)):
            containers = pod["status"].get("containerStatuses", [])
            if executes(pod, task) and any(item["name"] == "main" and "running" in item["state"] for item in containers):
                return str(pod["metadata"]["name"])
        return None

    def born(self, task: str) -> float:
        """When the first pod of that task of the runs was made (seconds since 1970)."""
        made = [
            datetime.fromisoformat(pod["metadata"]["creationTimestamp"]).timestamp()
            for run in self.runs()
            for pod in self.pods(run.run_id)
            if executes(pod, task)
        ]
        return min(made)

    def wait_for(self, what: str, found: Callable[[], Any], kfp_run_id: str, within_s: float = 600.0) -> Any:
        """What `found` finds while that run goes."""
        until = time.monotonic() + within_s
        while not (value := found()):
            if time.monotonic() > until or (self.api.get_run(kfp_run_id).state == "failed"):
                pytest.fail(f"{what}: it never came\n" + self.logs(kfp_run_id))
            time.sleep(0.5)
        return value

    def kill(self, pod: str) -> None:
        self.cluster.kubectl("delete", "pod", pod, "-n", self.namespace, "--grace-period=0", "--force")

    def wait_ended(self, kfp_run_id: str, within_s: float = 900.0) -> RunView:
        from optimas_core.deploy import follow

        until = time.monotonic() + within_s

        def sleep(seconds: float) -> None:
            if time.monotonic() > until:
                pytest.fail(f"run {kfp_run_id} did not end within {within_s:g} s\n" + self.logs(kfp_run_id))
            time.sleep(min(seconds, 2.0))

        return follow(self.api, kfp_run_id, say=lambda text: print(text, flush=True), sleep=sleep)

    def logs(self, kfp_run_id: str) -> str:
        """The ends of the logs of what did not end well in a run and in those after it, for a test that failed."""
        found = []
        for run in (self.api.get_run(kfp_run_id), *self.runs()):
            for pod in self.pods(run.run_id):
                name, phase = pod["metadata"]["name"], pod["status"]["phase"]
                if phase != "Succeeded":
                    log = self.cluster.kubectl("logs", "-n", self.namespace, name, "-c", "main", "--tail=25", check=False)
                    found.append(f"--- {run.name} {name} {phase}\n" + "\n".join(line[:300] for line in log.splitlines()))
        return "\n".join(found)


@pytest.fixture(scope="session")
def installation(
    cluster: Any,
    api: KfpApi,
    kfp_host: str,
    kfp_namespace: str,
    kfp_store: Any,
    accounts: None,
    endpoint: Endpoint,
    train_image: str,
    runtime_image: str,
) -> Iterator[OnKfp]:
    llm_secret = f"{cluster.namespace}-llm"
    cluster.secret(kfp_namespace, llm_secret, {"OPTIMAS_LLM_KEY": LLM_KEY})
    settings = {
        "image": runtime_image,
        "train_image": train_image,
        "s3_secret": kfp_store.secret,
        "llm_secret": llm_secret,
        "cpu": os.environ.get("OPTIMAS_KFP_CPU", "500m"),
        "memory": os.environ.get("OPTIMAS_KFP_MEMORY", "2Gi"),
        "controller_cpu": "200m",
        "shards": "2",
    }
    found = OnKfp(cluster, api, kfp_host, kfp_namespace, kfp_store.bucket, settings, endpoint, cluster.namespace)
    yield found
    cluster.kubectl("delete", "secret", llm_secret, "-n", kfp_namespace, check=False)


@pytest.fixture
def kubeflow(installation: OnKfp) -> Iterator[OnKfp]:
    """With an experiment of the test's own; a test that failed leaves no run."""
    found = replace(installation, experiment=f"{installation.experiment}-{secrets.token_hex(3)}")
    yield found
    for run in found.runs():
        if not run.finished:
            found.api.terminate_run(run.run_id)


@pytest.fixture(scope="session")
def whole(installation: OnKfp, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    run_yaml = installation.project(tmp_path_factory.mktemp("whole") / "project", "whole", LATENCY_MS)
    address = installation.workspace("whole")
    spec = installation.in_one_process(run_yaml, address, "colours")
    found, states_ = installation.outcome(address)
    return Whole(run_yaml, spec, found, states_, installation.endpoint.asked("whole"))


@pytest.fixture
def begun(kubeflow: OnKfp, whole: Whole) -> Callable[[str], tuple[str, Counter[str]]]:
    """A fresh workspace for the run that `whole` did, with its names and times; and what had been asked of the endpoint before."""

    def begin(prefix: str) -> tuple[str, Counter[str]]:
        address = kubeflow.workspace(prefix)
        Workspace.open(address).run("colours").freeze_spec(whole.spec)
        return address, kubeflow.endpoint.asked("whole")

    return begin


def executes(pod: dict[str, Any], task: str) -> bool:
    """Whether it is the pod in which that task's own code runs; its driver is another pod."""
    node = pod["metadata"].get("annotations", {}).get("workflows.argoproj.io/node-name", "")
    return re.search(rf"\.{task}(\(\d+\))?\.executor", node) is not None


def committed(run: Any) -> dict[str, bytes]:
    found = [item.key for kind in COMMITTED for item in run.store.scan(f"{run.prefix}/{kind}/")]
    blobs = {key: run.store.get(key) for key in found}
    return {key.removeprefix(run.prefix): blob.data for key, blob in blobs.items() if blob is not None}


def states(run: Any) -> list[RunState]:
    return [RunState.from_json(stored.data) for stored in run.states()]
