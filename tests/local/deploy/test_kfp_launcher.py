"""The controller as a task of a cluster: a KFP run for each pipeline, attached to after a restart, repeated after a fault.

The server is the faithful small one; what its pods would do is done by a thread that calls the tasks' own functions.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from optimas_core.artifacts import Workspace, pack_bundle, put_bundle
from optimas_core.controller import RunState
from optimas_core.errors import Interrupted, PermanentError, TemporaryError
from optimas_core.launchers import ClusterSettings, KubeflowPipelines, PipelineFailed, Placed, tasks
from optimas_core.launchers._tasks import open_task
from optimas_core.launchers.controller_task import drive
from optimas_core.launchers.kfp_api import KfpApi

Write = Callable[..., Path]
Command = Callable[..., Any]
# Where the embedded models lie: the server's fixture gives each test a home of its own.
CACHE = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
SETTINGS = ClusterSettings(poll_s=0.02, mend_deadline_s=0.2, start_deadline_s=0.4, parameters={"gpus": "1", "no_such_parameter": 1})


class Pods:
    """Does the work of every KFP run that appears. `faults` maps a run's name to what becomes of it instead."""

    def __init__(self, server: Any, faults: dict[str, str]) -> None:
        self.server, self.faults, self.done = server, faults, threading.Event()
        self.played: list[str] = []
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.done.set()
        self._thread.join(60)

    def _work(self) -> None:
        while not self.done.wait(0.02):
            with self.server.lock:
                fresh = [run for run in self.server.runs.values() if run["display_name"] not in self.played]
            for run in fresh:
                self.played.append(run["display_name"])
                self.server.move(run["run_id"], "RUNNING")
                try:
                    self._play(run)
                except Exception as error:
                    self.server.move(run["run_id"], "FAILED", f"{type(error).__name__}: {error}")
                else:
                    self.server.move(run["run_id"], "SUCCEEDED")

    def _play(self, run: dict[str, Any]) -> None:
        given = run["runtime_config"]["parameters"]
        place = (given["workspace"], given["run_id"], given["bundle"])
        name = run["display_name"]
        if name.endswith("sealed-test"):
            tasks.read_test(*place, given["before"], given["after"], {})
            return
        state = given.get("state", 0)
        proposals = tasks.propose_changes(*place, state, {}) if state else ""
        for shard in given["shard_indexes"]:
            tasks.measure_preferences(*place, state, shard, given["shards"])
        if self.faults.pop(name, None) == "node lost":
            raise RuntimeError("This step is in Error state")  # all that KFP says
        if not state:
            tasks.train_first(*place, {})
            return
        lrf = tasks.adapt_rewards(*place, state, proposals, {})
        ranking = tasks.optimize_locally(*place, state, proposals, lrf, {})
        tasks.validate_choice(*place, state, ranking, {})


@pytest.fixture
def begun(
    scripted_project: Write, optimas: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Workspace, Placed, Workspace]:
    """(workspace of a run that is to be done on the cluster, what its tasks are told, the same run ended in one process)."""
    monkeypatch.setenv("XDG_CACHE_HOME", CACHE)
    project = scripted_project(name="colours", schedule={"iterations": 2, "selection": {"kind": "round_robin"}})
    assert optimas("run", project, "--skip-checks", "--workspace", tmp_path / "whole").code == 0
    whole = Workspace.open(tmp_path / "whole")
    workspace = Workspace.open(tmp_path / "cluster")
    workspace.run("colours").freeze_spec(whole.run("colours").read_spec() or {})
    monkeypatch.setenv("OPTIMAS_CODE_FOLDER", str(tmp_path / "code"))
    bundle = put_bundle(workspace, pack_bundle(project.parent, exclude=[project.parent / "workspace"]))
    return workspace, Placed(str(tmp_path / "cluster"), bundle, shards=2), whole


@pytest.fixture
def pods(kfp: Any) -> Iterator[Callable[[dict[str, str]], Pods]]:
    started: list[Pods] = []

    def start(faults: dict[str, str]) -> Pods:
        started.append(Pods(kfp, faults))
        return started[-1]

    yield start
    for one in started:
        one.close()


def states(workspace: Workspace) -> list[RunState]:
    return [RunState.from_json(stored.data) for stored in workspace.run("colours").states()]


@pytest.mark.timeout(600)
def test_a_whole_run_on_the_cluster_with_a_lost_node_and_a_server_that_restarts(
    begun: tuple[Workspace, Placed, Workspace], kfp: Any, api: KfpApi, pods: Callable[[dict[str, str]], Pods]
) -> None:
    workspace, placed, whole = begun
    played = pods({"colours-it-0001": "node lost"})
    context = open_task(placed.workspace, "colours", placed.bundle, for_the_test=True)
    with pytest.raises(TemporaryError, match="it-0001"):
        drive(context, api, SETTINGS, placed)
    assert [state.phase for state in states(workspace)] == ["created", "warm"]
    kfp.down_until = time.monotonic() + 1.5  # the API server comes back while the controller starts again
    again = open_task(placed.workspace, "colours", placed.bundle, for_the_test=True)
    assert drive(again, api, SETTINGS, placed).phase == "finished"
    assert states(workspace) == states(whole), "the same verdicts as in one process"
    assert played.played == ["colours-warm-up", "colours-it-0001", "colours-it-0001-again-2", "colours-it-0002", "colours-sealed-test"]
    first = next(run for run in kfp.runs.values() if run["display_name"] == "colours-warm-up")
    assert first["runtime_config"]["parameters"]["gpus"] == "1" and "no_such_parameter" not in first["runtime_config"]["parameters"]
    sealed = next(run for run in kfp.runs.values() if run["display_name"] == "colours-sealed-test")
    assert "gpus" not in sealed["runtime_config"]["parameters"], "each pipeline is given the settings that it has"


def once_started(kfp: Any, act: Callable[[str], object]) -> threading.Thread:
    """`act` on the KFP run as soon as there is one, after some looks at it."""

    def wait() -> None:
        while not kfp.runs:
            time.sleep(0.02)
        time.sleep(0.2)
        for run_id in list(kfp.runs):
            act(run_id)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def arguments() -> dict[str, Any]:
    return {"workspace": "s3://b/p", "run_id": "colours", "bundle": "0" * 64, "before": "a", "after": "b"}


def test_after_a_restart_the_run_in_progress_is_attached_to(kfp: Any, api: KfpApi) -> None:
    looks = 0

    def check() -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            raise Interrupted("the pod is deleted.")

    with pytest.raises(Interrupted):
        KubeflowPipelines(api, SETTINGS, check=check).execute("sealed_test", "colours-sealed-test", arguments())
    (run_id,) = kfp.runs
    assert kfp.runs[run_id].get("state") not in ("CANCELING", "FAILED"), "the run goes on without its controller"
    ends = once_started(kfp, lambda there: kfp.move(there, "SUCCEEDED"))
    said: list[str] = []
    KubeflowPipelines(api, SETTINGS, say=said.append).execute("sealed_test", "colours-sealed-test", arguments())
    ends.join()
    assert list(kfp.runs) == [run_id] and run_id in said[0]


def test_a_failed_run_says_what_the_server_knows(kfp: Any, api: KfpApi) -> None:
    ends = once_started(kfp, lambda run_id: kfp.move(run_id, "FAILED", "OOMKilled"))
    with pytest.raises(PipelineFailed, match="OOMKilled"):
        KubeflowPipelines(api, SETTINGS).execute("sealed_test", "colours-sealed-test", arguments())
    ends.join()


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ('CreateContainerConfigError: secret "optimas-llm" not found', "optimas-llm"),
        ("Unschedulable: 0/1 nodes are available: 1 Insufficient nvidia.com/gpu.", "nvidia.com/gpu"),
        ('ImagePullBackOff: Back-off pulling image "optimas-train:0.1.0"', "optimas-train:0.1.0"),
        ("Unschedulable: 0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.", "selector"),
    ],
)
def test_a_pod_that_never_starts_is_named_and_ends_the_wait(kfp: Any, api: KfpApi, message: str, named: str) -> None:
    kfp_nodes = {"n": {"type": "Pod", "phase": "Pending", "name": "x.root.train-lrf.executor", "message": message}}
    give = once_started(kfp, lambda run_id: kfp.nodes.update({run_id: kfp_nodes}))
    said: list[str] = []
    with pytest.raises(PermanentError, match="cannot start") as stopped:
        KubeflowPipelines(api, SETTINGS, say=said.append).execute("sealed_test", "colours-sealed-test", arguments())
    give.join()
    assert named in stopped.value.message and any(named in line for line in said)
    (run,) = kfp.runs.values()
    assert run["state"] in ("CANCELING", "FAILED"), "it does not wait for ever in the cluster"
