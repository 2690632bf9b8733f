"""What a compiled pipeline takes is checked before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest

from optimas_core.deploy import fitting, parsed_settings, read_pipeline
from optimas_core.errors import EnvironmentNotReady, SpecError
from optimas_core.launchers import compiled

YAML = b"""
pipelineInfo: {name: small}
components:
  comp-loop:
    dag: {tasks: {inner: {cachingOptions: {}}}}
root:
  dag: {tasks: {outer: {cachingOptions: {}}}}
  inputDefinitions:
    parameters:
      run_id: {parameterType: STRING}
      gpus: {parameterType: NUMBER_INTEGER, defaultValue: 0, isOptional: true}
      share: {parameterType: NUMBER_DOUBLE, defaultValue: 0.5, isOptional: true}
      local: {parameterType: BOOLEAN, isOptional: true}
      pool: {parameterType: STRUCT, isOptional: true}
sdkVersion: kfp-2.17.0
---
platforms: {}
"""


def test_what_a_pipeline_declares() -> None:
    found = read_pipeline(YAML)
    assert (found.name, found.sdk_version, found.data) == ("small", "2.17.0", YAML)
    assert found.parameters["run_id"] == ("STRING", True) and found.parameters["gpus"] == ("NUMBER_INTEGER", False)


@pytest.mark.parametrize("name", ["iteration", "warm_up", "sealed_test"])
def test_the_pipelines_of_the_package_can_be_read_and_allow_no_cache(name: str) -> None:
    found = read_pipeline(compiled(name))
    assert {"workspace", "run_id", "bundle"} <= set(found.parameters) and found.sdk_version.startswith("2.17")


@pytest.mark.parametrize("name", ["nothing", "../models/prices", "Iteration"])
def test_a_pipeline_that_is_not_there(name: str) -> None:
    with pytest.raises(EnvironmentNotReady, match="no compiled pipeline.*make pipelines"):
        compiled(name)


@pytest.mark.parametrize("data", [b"", b"a: [", b"[]", b"pipelineInfo: {name: x}", b"pipelineInfo: {name: x}\nroot: 3"])
def test_a_file_that_is_no_pipeline(data: bytes) -> None:
    with pytest.raises(EnvironmentNotReady, match="cannot be read"):
        read_pipeline(data)


@pytest.mark.parametrize("task", [b"outer: {cachingOptions: {}}", b"inner: {cachingOptions: {}}"])
def test_a_task_that_may_be_answered_from_the_cache_is_refused(task: bytes) -> None:
    with pytest.raises(EnvironmentNotReady, match=f"task '{task[:5].decode()}' of pipeline 'small' allows KFP's cache"):
        read_pipeline(YAML.replace(task, task.replace(b"{}", b"{enableCache: true}")))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "needs parameter 'run_id'"),
        ({"run_id": "r", "gpu": 1}, "no parameter 'gpu'. Did you mean 'gpus'?"),
        ({"run_id": 5}, "parameter 'run_id' is int '5', not STRING"),
        ({"run_id": "r", "gpus": "1"}, "parameter 'gpus' is str '1', not NUMBER_INTEGER"),
        ({"run_id": "r", "gpus": True}, "parameter 'gpus' is bool"),
        ({"run_id": "r", "pool": []}, "parameter 'pool' is list"),
    ],
)
def test_parameters_that_do_not_fit(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as caught:
        fitting(read_pipeline(YAML), given)
    assert said in str(caught.value)


def test_parameters_that_fit_and_texts_of_a_command_line() -> None:
    pipeline = read_pipeline(YAML)
    read = parsed_settings(pipeline, {"run_id": "007", "gpus": "2", "share": "1", "local": "true", "pool": '{"a": 1}'})
    assert fitting(pipeline, read) == {"run_id": "007", "gpus": 2, "share": 1, "local": True, "pool": {"a": 1}}
    for text in ("two", "NaN", "1e999", "{"):
        with pytest.raises(SpecError, match="--set gpus="):
            parsed_settings(pipeline, {"gpus": text})
