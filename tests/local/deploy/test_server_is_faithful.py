"""The SDK's own client reads the test server as it reads a real one, and sees what ours made: the two speak one protocol."""

from __future__ import annotations

import json
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from optimas_core.deploy import CompiledPipeline
from optimas_core.launchers.kfp_api import KfpApi, get_or_create_run


def named(name: str) -> str:
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "name", "stringValue": name}]})


def test_the_sdk_sees_what_our_client_made(kfp: Any, api: KfpApi, pipeline: CompiledPipeline, tmp_path: Path) -> None:
    sdk = pytest.importorskip("kfp.client")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = sdk.Client(host=kfp.url)
    assert client.get_kfp_healthz().multi_user is False
    experiment_id = api.ensure_experiment("optimas")
    assert client.create_experiment("optimas").experiment_id == experiment_id
    assert client.list_runs(filter=named("colours")).runs is None
    ids = api.ensure_pipeline_version(pipeline.name, pipeline.data)
    assert client.get_pipeline_id(pipeline.name) == ids.pipeline_id
    file = tmp_path / "pipeline.yaml"
    file.write_bytes(pipeline.data)
    with pytest.raises(Exception, match="409"):
        client.upload_pipeline_version(str(file), ids.version_name, pipeline_id=ids.pipeline_id)
    wanted: dict[str, Any] = {"name": "colours", "experiment_id": experiment_id, "pipeline": ids, "parameters": {"gpus": 1}}
    made, _ = get_or_create_run(api, **wanted, hold=nullcontext())
    (seen,) = client.list_runs(filter=named("colours"), experiment_id=experiment_id).runs
    assert seen.run_id == made.run_id and seen.state is None and seen.runtime_config.parameters == {"gpus": 1}
    client.terminate_run(made.run_id)
    states = [client.get_run(made.run_id).state for _ in range(4)]
    assert states[0] == "CANCELING" and states[-1] == "FAILED"
    assert (
        "CANCELING" in [item.state for item in client.get_run(made.run_id).state_history] and api.get_run(made.run_id).state == "canceled"
    )
    twice = [client.run_pipeline(experiment_id, "twice", pipeline_id=ids.pipeline_id, version_id=ids.version_id).run_id for _ in range(2)]
    assert {run.run_id for run in api.find_runs("twice", experiment_id)} == set(twice) and len(set(twice)) == 2
