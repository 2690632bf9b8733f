"""Settings that Kubeflow fixes in the YAML reach the server with the controller's pipeline, its children's and a schedule's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from optimas_core.deploy import CompiledPipeline
from optimas_core.launchers import ClusterSettings, KubeflowPipelines, PipelineFailed, compiled
from optimas_core.launchers.kfp_api import KfpApi

Command = Callable[..., Any]
Write = Callable[..., Path]


def version_of(kfp: Any, run: dict[str, Any]) -> str:
    """The YAML that a run of the server was started from."""
    text: str = kfp.versions[run["pipeline_version_reference"]["pipeline_version_id"]]["yaml"]
    return text


def kubernetes_part(text: str) -> dict[str, Any]:
    found: dict[str, Any] = list(yaml.safe_load_all(text))[1]["platforms"]["kubernetes"]
    return found


def test_a_submission_carries_them_and_passes_them_on(
    kfp: Any, api: KfpApi, optimas: Command, scripted_project: Write, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTIMAS_KFP_HOST", kfp.url)
    path = scripted_project(workspace=s3_url, name="colours")
    said = optimas(
        "submit", path, "--set", "ttl_s=3600", "--set", "image_pull_policy=Always", "--set", "gpus=2", "--set", "task_attempts=4"
    )
    assert said.code == 0, said
    (run,) = kfp.runs.values()
    body, platform = yaml.safe_load_all(version_of(kfp, run))
    assert platform["platforms"]["kubernetes"]["pipelineConfig"] == {"resourceTtlOnCompletion": 3600}
    assert body["deploymentSpec"]["executors"]["exec-controller"]["container"]["env"] == [{"name": "OPTIMAS_TASK_ATTEMPTS", "value": "4"}]
    given = run["runtime_config"]["parameters"]
    assert "ttl_s" not in given and given["gpus"] == "2", "what is no parameter is not sent as one"
    assert given["cluster"] == {"ttl_s": 3600, "image_pull_policy": "Always", "gpus": "2", "task_attempts": 4}

    # The controller's task, as its pod starts it, with numbers as KFP writes them.
    settings = ClusterSettings(poll_s=0.01, parameters=given["cluster"] | {"ttl_s": 3600.0})
    launcher = KubeflowPipelines(api, settings, say=lambda text: kfp.move(next(reversed(kfp.runs)), "FAILED", "enough"))
    common = {"workspace": s3_url, "run_id": "colours", "bundle": given["bundle"]}
    with pytest.raises(PipelineFailed, match="enough"):
        launcher.execute("sealed_test", "colours-sealed-test", common | {"before": "a", "after": "b"})
    child = next(item for item in kfp.runs.values() if item["display_name"] == "colours-sealed-test")
    kubernetes = kubernetes_part(version_of(kfp, child))
    assert kubernetes["pipelineConfig"] == {"resourceTtlOnCompletion": 3600}
    assert {pod["imagePullPolicy"] for pod in kubernetes["deploymentSpec"]["executors"].values()} == {"Always"}
    assert "ttl_s" not in child["runtime_config"]["parameters"]


def test_without_them_the_server_gets_the_bytes_that_were_compiled(
    kfp: Any, optimas: Command, scripted_project: Write, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTIMAS_KFP_HOST", kfp.url)
    path = scripted_project(workspace=s3_url, name="colours")
    assert optimas("submit", path, "--set", "gpus=1").code == 0
    (version,) = kfp.versions.values()
    assert version["yaml"].strip() == compiled("controller").decode().strip()


def test_a_value_that_does_not_fit_sends_nothing(
    kfp: Any, optimas: Command, scripted_project: Write, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTIMAS_KFP_HOST", kfp.url)
    path = scripted_project(workspace=s3_url, name="colours")
    for setting, sentence in (
        ("ttl_s=5", "ttl_s = 5 is not"),
        ("priority_class=batch", "no field for the priority class"),
        ("ttls=5", "Did you mean 'ttl_s'?"),
    ):
        said = optimas("submit", path, "--set", setting)
        assert said.code == 2 and sentence in said.err and len(said.err.splitlines()) == 1, said
    assert not kfp.runs and not kfp.versions


def test_a_schedule_carries_them_and_another_value_is_another_schedule(
    kfp: Any, optimas: Command, pipeline: CompiledPipeline, scripted_project: Write, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optimas_core.cli._deploy.compiled", lambda name: pipeline.data)
    monkeypatch.setenv("OPTIMAS_KFP_HOST", kfp.url)
    path = scripted_project(workspace=s3_url, name="colours")
    command = ("schedule", path, "--cron", "0 0 2 * * 0", "--set")
    for setting, action in (("deadline_s=7200", "created"), ("deadline_s=7200", "unchanged"), ("deadline_s=3600", "replaced")):
        said = optimas(*command, setting)
        assert said.code == 0 and f"colours: {action}" in said.out, said
    (there,) = kfp.recurring.values()
    assert kubernetes_part(version_of(kfp, there))["pipelineConfig"] == {"activeDeadlineSeconds": 3600}
    assert there["runtime_config"]["parameters"]["cluster"] == {"deadline_s": 3600}


def test_the_list_needs_no_run_yaml_and_no_cluster(optimas: Command) -> None:
    said = optimas("submit", "--list-settings")
    assert said.code == 0 and "deadline_s" in said.out and "optimas-train" in said.out
