"""Settings that Kubeflow fixes in the YAML: what they change of each compiled pipeline, and that nothing else moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from optimas_core.deploy import parsed_settings, read_pipeline, settings_of
from optimas_core.errors import EnvironmentNotReady, SpecError
from optimas_core.launchers import POD_SETTINGS, compiled, pod_settings, with_pod_settings
from optimas_core.launchers._tasks import retries
from optimas_core.launchers.kfp_api import version_name

PIPELINES = sorted(path.stem for path in (Path(__file__).parents[3] / "pipelines").glob("*.yaml"))
EVERYTHING = {
    "image_pull_policy": "Always",
    "ttl_s": 3600,
    "deadline_s": 86400,
    "task_deadline_s": 7200,
    "task_attempts": 5,
    "task_backoff_s": 0.5,
}


def parts(data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    body, platform = yaml.safe_load_all(data)
    return body, platform["platforms"]["kubernetes"]


@pytest.mark.parametrize("name", PIPELINES)
def test_without_a_setting_not_a_byte_moves(name: str) -> None:
    data = compiled(name)
    assert with_pod_settings(data, {}) == data
    assert with_pod_settings(data, {"gpus": "1", "tolerations": []}) == data, "parameters of a pipeline are none of these"
    assert read_pipeline(data).with_settings({"gpus": "1"}).data == data


@pytest.mark.parametrize("name", PIPELINES)
def test_every_setting_reaches_every_task_and_nothing_else_moves(name: str) -> None:
    data = compiled(name)
    changed = with_pod_settings(data, EVERYTHING)
    body, kubernetes = parts(changed)
    assert kubernetes.pop("pipelineConfig") == {"resourceTtlOnCompletion": 3600, "activeDeadlineSeconds": 86400}
    executors = body["deploymentSpec"]["executors"]
    assert executors and set(executors) == set(kubernetes["deploymentSpec"]["executors"])
    for key, executor in executors.items():
        pod = kubernetes["deploymentSpec"]["executors"][key]
        assert pod.pop("imagePullPolicy") == "Always"
        assert pod.pop("activeDeadlineSeconds", None) == (None if key == "exec-controller" else 7200), "the loop outlives every task"
        assert executor["container"].pop("env") == [
            {"name": "OPTIMAS_TASK_ATTEMPTS", "value": "5"},
            {"name": "OPTIMAS_TASK_BACKOFF_S", "value": "0.5"},
        ]
    assert (body, kubernetes) == parts(data)
    assert version_name(name, changed) != version_name(name, data), "another version of the pipeline"
    assert with_pod_settings(data, dict(reversed(EVERYTHING.items()))) == changed, "the same settings are the same version"


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("setting", EVERYTHING)
def test_one_setting_adds_lines_and_removes_none(name: str, setting: str) -> None:
    before, after = (
        compiled(name).decode().splitlines(),
        with_pod_settings(compiled(name), {setting: EVERYTHING[setting]}).decode().splitlines(),
    )
    left = iter(after)
    assert all(line in left for line in before) and len(after) > len(before)


@pytest.mark.parametrize("name", PIPELINES)
def test_kubeflow_reads_the_fields_where_they_stand(name: str) -> None:
    """By the messages of its own SDK: a name that they do not have raises."""
    from google.protobuf import json_format
    from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
    from kfp.pipeline_spec import pipeline_spec_pb2

    body, kubernetes = parts(with_pod_settings(compiled(name), EVERYTHING))
    config = json_format.ParseDict(kubernetes["pipelineConfig"], pipeline_spec_pb2.PipelineConfig())
    assert (config.resource_ttl_on_completion, config.active_deadline_seconds) == (3600, 86400)
    for key, pod in kubernetes["deploymentSpec"]["executors"].items():
        read = json_format.ParseDict(pod, KubernetesExecutorConfig())
        assert (read.image_pull_policy, read.active_deadline_seconds) == ("Always", 0 if key == "exec-controller" else 7200)
    json_format.ParseDict(body, pipeline_spec_pb2.PipelineSpec())
    described = {field.name for field in KubernetesExecutorConfig.DESCRIPTOR.fields}
    assert not any("priority" in field for field in described), "then it can be a setting"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"image_pull_policy": "always"}, "image_pull_policy = 'always' is not one of Always, IfNotPresent, Never"),
        ({"image_pull_policy": 1}, "image_pull_policy = 1 is not one of"),
        ({"ttl_s": 59}, "ttl_s = 59 is not a whole number from 60 to 2147483647. Give for example --set ttl_s=60."),
        ({"deadline_s": 2**31}, "deadline_s = 2147483648 is not a whole number from 60"),
        ({"deadline_s": 90.5}, "deadline_s = 90.5 is not a whole number"),
        ({"task_deadline_s": "3600"}, "task_deadline_s = '3600' is not a whole number"),
        ({"task_deadline_s": float("inf")}, "task_deadline_s = inf is not"),
        ({"task_attempts": 0}, "task_attempts = 0 is not a whole number from 1 to 20"),
        ({"task_attempts": True}, "task_attempts = True is not"),
        ({"task_backoff_s": float("nan")}, "task_backoff_s = nan is not a number from 0.1 to 600"),
        ({"task_backoff_s": None}, "task_backoff_s = None is not"),
        ({"priority_class": "batch"}, "no field for the priority class of a run's pods. Make a PriorityClass the cluster's default"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_in_one_sentence(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as caught:
        with_pod_settings(compiled("iteration"), given)
    assert said in str(caught.value)


def test_a_whole_number_comes_back_from_a_pipeline_as_a_double() -> None:
    assert pod_settings({"ttl_s": 3600.0, "task_backoff_s": 2, "gpus": "1"}) == {"ttl_s": 3600, "task_backoff_s": 2.0}


def test_texts_of_the_command_line_are_read_by_their_kind() -> None:
    pipeline = read_pipeline(compiled("controller"))
    texts = {"ttl_s": "3600", "task_backoff_s": "0.5", "image_pull_policy": "Always", "gpus": "1"}
    assert parsed_settings(pipeline, texts) == {"ttl_s": 3600, "task_backoff_s": 0.5, "image_pull_policy": "Always", "gpus": "1"}
    with pytest.raises(SpecError, match="--set deadline_s=1h"):
        parsed_settings(pipeline, {"deadline_s": "1h"})


def test_the_list_of_settings_names_each_with_its_default_and_meaning() -> None:
    listed = {item.name: item for item in settings_of(read_pipeline(compiled("controller")))}
    assert {item.name for item in POD_SETTINGS} == set(EVERYTHING) < set(listed)
    assert all(item.meaning for item in listed.values())
    assert listed["gpus"].default == "0" and listed["shards"].default == "4" and listed["node_selector"].default == "{}"
    assert not {"workspace", "bundle", "cluster", "shard_indexes"} & set(listed), "these follow from something else"


def test_the_environment_says_how_often_a_task_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    from optimas_core.errors import StoreUnavailable

    monkeypatch.setenv("OPTIMAS_TASK_ATTEMPTS", "2")
    monkeypatch.setenv("OPTIMAS_TASK_BACKOFF_S", "0.01")
    tried: list[int] = []

    def fail() -> None:
        tried.append(1)
        raise StoreUnavailable("away.")

    with pytest.raises(StoreUnavailable):
        retries(attempts=5)(fail)
    assert len(tried) == 2
    monkeypatch.setenv("OPTIMAS_TASK_ATTEMPTS", "two")
    with pytest.raises(EnvironmentNotReady, match="OPTIMAS_TASK_ATTEMPTS='two' is no whole number above 0"):
        retries()
    monkeypatch.setenv("OPTIMAS_TASK_ATTEMPTS", "2")
    monkeypatch.setenv("OPTIMAS_TASK_BACKOFF_S", "-1")
    with pytest.raises(EnvironmentNotReady, match="OPTIMAS_TASK_BACKOFF_S"):
        retries()
