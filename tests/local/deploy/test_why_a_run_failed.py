"""A failed run of Kubeflow Pipelines carries no reason (measured); it is read from the log of the pod that failed."""

from __future__ import annotations

from typing import Any

import pytest

from optimas_core.launchers import ClusterSettings, KubeflowPipelines, PipelineFailed
from optimas_core.launchers.kfp_api import KfpApi, RunView

OURS = b"""I1121 20:09:43.218385 14 main.go:67] Setting log level to: '1'
Traceback (most recent call last):
  File "/opt/optimas/lib/python3.13/site-packages/kfp/dsl/executor_main.py", line 109, in executor_main
optimas_core.errors.EnvironmentNotReady: the bucket is not there. Make it, or correct the workspace.
I1121 20:09:44.000000 14 launcher_v2.go:151] publish success.
F1121 20:09:44.100000 14 main.go:59] failed to execute component: exit status 1
time=2026-11-21T20:06:13.952Z level=INFO msg="sub-process exited" argo=true error="exit status 1"
Error: exit status 1
"""
DRIVER = b"""F1121 20:06:13.242395 15 main.go:127] KFP driver: driver.Container(runID=b) failed: failed to resolve inputs: shard is text
Error: exit status 1
"""


@pytest.fixture
def failed(kfp: Any, api: KfpApi, pipeline: Any) -> RunView:
    """A run with the nodes of a real one: retries around everything, several steps failed, others left out."""
    ids = api.ensure_pipeline_version(pipeline.name, pipeline.data)
    run = api.create_run_once(name="colours", experiment_id=api.ensure_experiment("optimas"), pipeline=ids, parameters={})

    def node(name: str, kind: str, phase: str, ended: str, message: str = "") -> dict[str, Any]:
        return {
            "id": name.rsplit(".", 1)[-1].split("(")[0],
            "name": name,
            "type": kind,
            "phase": phase,
            "finishedAt": ended,
            "message": message,
        }

    top = "optimas-controller-8h8dw(0).root(0)"
    exit_1 = "main: Error (exit code 1)"
    kfp.nodes[run.run_id] = {
        str(number): item | {"id": f"pod-{number}"}
        for number, item in enumerate(
            [
                node("optimas-controller-8h8dw", "Retry", "Failed", "2026-11-21T20:06:18Z"),
                node(f"{top}.prerequisites-check(0).executor(0)", "Pod", "Succeeded", "2026-11-21T20:05:58Z"),
                node(f"{top}.for-loop-1(0).item(1:1)(0).generate-preferences-driver(0)", "Pod", "Failed", "2026-11-21T20:06:16Z", exit_1),
                node(f"{top}.train-lrf(0).executor(0)", "Pod", "Failed", "2026-11-21T20:06:10Z", exit_1),
                node(f"{top}.train-lrf(0).executor(1)", "Pod", "Failed", "2026-11-21T20:06:12Z", exit_1),
                node(f"{top}.report", "Skipped", "Omitted", "2026-11-21T20:06:18Z", "omitted: depends condition not met"),
            ]
        )
    }
    return run


def test_the_reason_is_the_telling_line_of_the_log(kfp: Any, api: KfpApi, failed: RunView) -> None:
    kfp.logs |= {"pod-2": DRIVER, "pod-4": OURS}
    assert api.failures(failed.run_id) == (
        "train-lrf: the bucket is not there. Make it, or correct the workspace.",
        "generate-preferences: failed to resolve inputs: shard is text",
    )


def test_without_a_log_the_exit_code_is_told(api: KfpApi, failed: RunView) -> None:
    assert api.failures(failed.run_id)[0] == "train-lrf: main: Error (exit code 1)"


def test_only_the_end_of_a_long_log_is_kept_and_no_key_is_told(kfp: Any, api: KfpApi, failed: RunView, monkeypatch: Any) -> None:
    monkeypatch.setenv("OPTIMAS_KFP_TOKEN", "s3cr3t-token-of-this-user")
    kfp.logs["pod-4"] = b"optimas: an old line\n" + b"x" * 99 + b"\n" * (2 << 20) + b"optimas: denied to s3cr3t-token-of-this-user\n"
    (first, *_) = api.failures(failed.run_id)
    assert first.startswith("train-lrf: denied to ") and "s3cr3t" not in first


def test_a_server_that_tells_nothing_leaves_the_reason_open(kfp: Any, api: KfpApi, failed: RunView) -> None:
    kfp.next_statuses = [403]
    assert api.failures(failed.run_id) == ()


def test_the_controller_says_why_a_child_run_failed(kfp: Any, api: KfpApi, failed: RunView) -> None:
    kfp.logs["pod-4"] = OURS
    kfp.nodes["*"] = kfp.nodes[failed.run_id]
    kfp.move(failed.run_id, "RUNNING")

    def fail_it() -> None:
        for run_id in list(kfp.runs):
            kfp.move(run_id, "FAILED")

    with pytest.raises(PipelineFailed, match="train-lrf: the bucket is not there"):
        KubeflowPipelines(api, ClusterSettings(poll_s=0.01), check=fail_it).execute(
            "sealed_test", "colours-sealed-test", {"workspace": "s3://b/p", "run_id": "colours", "bundle": "0", "before": "a", "after": "b"}
        )
