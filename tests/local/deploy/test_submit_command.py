"""`optimas submit` and `cancel` as commands, over the S3 server: what they print, what they pass on, and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optimas_core.artifacts import Workspace
from optimas_core.deploy import CompiledPipeline


@pytest.fixture
def packaged(pipeline: CompiledPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optimas_core.cli._deploy.compiled", lambda name: pipeline.data)


def test_submit_and_cancel_from_the_command_line(
    kfp: Any,
    packaged: None,
    optimas: Callable[..., Any],
    scripted_project: Callable[..., Path],
    s3_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = scripted_project(workspace=s3_url, name="colours")
    monkeypatch.setenv("OPTIMAS_KFP_HOST", kfp.url)
    said = optimas("submit", path, "--set", "gpus=2", "--set", 'node_selector={"pool": "a"}', "--set", "shards=2", "--experiment", "theirs")
    assert said.code == 0 and said.out.splitlines()[0] == "colours: submitted" and f"Link: {kfp.url}" in said.out, said
    (there,) = kfp.runs.values()
    parameters = there["runtime_config"]["parameters"]
    assert (parameters["gpus"], parameters["node_selector"], parameters["workspace"]) == (2, {"pool": "a"}, s3_url)
    # Its children: in the experiment where cancel looks, under the same account, with the same settings of the cluster.
    assert (parameters["experiment"], parameters["service_account"], there["service_account"]) == ("theirs", "optimas", "optimas")
    assert parameters["cluster"] == {"gpus": 2, "node_selector": {"pool": "a"}} and parameters["shard_indexes"] == [0, 1]
    opened = Workspace.open(s3_url)
    assert len(parameters["bundle"]) == 64 and any(parameters["bundle"] in key for key in opened.store.list("bundles/"))
    assert opened.run_ids() == ["colours"], "its frozen spec is there: tasks read it"
    kfp.move(there["run_id"], "SUCCEEDED")
    again = json.loads(optimas("submit", path, "--wait", "--json").out)
    assert again["attached"] and again["state"] == "succeeded" and again["kfp_run_id"] == there["run_id"]
    kfp.move(there["run_id"], "RUNNING")
    ended = optimas("cancel", s3_url, "colours")
    assert ended.code == 0 and "ended colours" in ended.out
    said = optimas("submit", path)
    assert said.code == 1 and "canceled on the cluster" in said.err and "--again" in said.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "gpu=1"], "no parameter 'gpu'. Did you mean 'gpus'?"),
        (["--set", "gpus=many"], "--set gpus=many: not NUMBER_INTEGER"),
        (["--set", "gpus=true"], "parameter 'gpus' is bool"),
        (["--set", "gpus"], "is not name=value"),
        (["--set", "experiment=x"], "parameter 'experiment' is not set by itself. Use --experiment."),
        (["--set", "shards=17"], "shards = 17 is not between 1 and 16"),
        (["--set", "node_selector=" + json.dumps({"pool": "x" * 100_001})], "'node_selector' has 100"),
        (["--host", "http://127.0.0.1:9"], "127.0.0.1:9 cannot be reached"),
        (["--host", "http://me:secret@127.0.0.1:9"], "holds a user or a password"),
        (["--host", "ftp://127.0.0.1"], "is no address of a server"),
        (["--workspace", "s3://no-such-bucket-here/x"], "no-such-bucket-here"),
        (["--workspace", "somewhere"], "pods cannot reach it"),
    ],
)
def test_bad_input_ends_in_one_sentence_before_anything_is_started(
    kfp: Any,
    packaged: None,
    optimas: Callable[..., Any],
    scripted_project: Callable[..., Path],
    s3_url: str,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.setattr("optimas_core.launchers.kfp_api._client._CHECK_S", 0.3)
    monkeypatch.setenv("OPTIMAS_KFP_HOST", kfp.url)
    found = optimas("submit", scripted_project(workspace=s3_url), *arguments)
    assert found.code == 2 and said in found.err and len(found.err.strip().splitlines()) == 1, found
    assert not kfp.runs and not kfp.pipelines and "secret" not in found.err


def test_an_older_server_is_refused_before_anything_is_written(
    kfp: Any, packaged: None, optimas: Callable[..., Any], scripted_project: Callable[..., Path], s3_url: str
) -> None:
    kfp.tag_name = "2.4.0"
    found = optimas("submit", scripted_project(workspace=s3_url), "--host", kfp.url)
    assert found.code == 2 and "2.4.0" in found.err and not Workspace.open(s3_url).run_ids()
