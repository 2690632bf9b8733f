"""Argo's messages become one sentence with step and cause; what is no problem stays silent."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import pytest

from optimas_core.launchers.kfp_api import child_run_name, is_child_run, problems_of, stage_run_name

NAME = "optimas-controller-x7k2p.root.train-lrf.executor(0)"


def detail(*nodes: dict[str, Any], packed: bool = False, key: str = "workflow_manifest") -> dict[str, Any]:
    named = {f"n{index}": {"type": "Pod", "phase": "Pending", "name": NAME, **node} for index, node in enumerate(nodes)}
    status: dict[str, Any] = {"nodes": named}
    if packed:
        status = {"compressedNodes": base64.b64encode(gzip.compress(json.dumps(named).encode())).decode()}
    return {"pipeline_runtime": {key: json.dumps({"status": status})}}


@pytest.mark.parametrize(
    ("message", "kind", "said"),
    [
        (
            "Unschedulable: 0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: none",
            "capacity",
            "no node has enough nvidia.com/gpu free",
        ),
        (
            "Unschedulable: 0/3 nodes are available: 1 Insufficient cpu, 2 Insufficient memory.",
            "capacity",
            "no node has enough cpu and memory free",
        ),
        (
            "Unschedulable: 0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
            "configuration",
            "no node matches its node selector",
        ),
        ("Unschedulable: 0/1 nodes are available: 1 node(s) had untolerated taint {gpu: yes}.", "configuration", "it tolerates no taint"),
        ("Unschedulable: something new", "capacity", "no node takes it"),
        ('CreateContainerConfigError: secret "llm-keys" not found', "configuration", "secret 'llm-keys' does not exist"),
        ('CreateContainerConfigError: configmap "c" not found', "configuration", "configmap 'c' does not exist"),
        (
            "CreateContainerConfigError: container has runAsNonRoot and image will run as root",
            "configuration",
            "its container cannot be created",
        ),
        (
            'ErrImagePull: failed to pull and unpack image "r.example/x:1": not found',
            "configuration",
            "its image 'r.example/x:1' cannot be pulled",
        ),
        ('ImagePullBackOff: Back-off pulling image "r.example/x:1"', "configuration", "its image 'r.example/x:1' cannot be pulled"),
        ("InvalidImageName: x", "configuration", "its image cannot be pulled"),
    ],
)
def test_what_can_not_start_and_why(message: str, kind: str, said: str) -> None:
    for packed in (False, True):
        (problem,) = problems_of(detail({"message": message}, packed=packed))
        assert (
            problem.step == "train-lrf" and problem.kind == kind and problem.sentence.startswith("train-lrf: ") and said in problem.sentence
        )
    assert len(problems_of(detail({"message": message + " x" * 1000}))[0].sentence) < 500


def test_what_is_no_problem() -> None:
    bad = "Unschedulable: 1 Insufficient cpu"
    silent = ({"message": "PodInitializing"}, {"message": "ContainerCreating"}, {"message": 5}, {}, {"message": bad, "phase": "Succeeded"})
    assert problems_of(detail(*silent, {"message": bad, "type": "DAG"})) == ()
    assert len(problems_of(detail({"message": bad}, {"message": bad}))) == 1, "two shards, one cause"
    assert problems_of(detail({"message": bad}, key="pipeline_manifest"))


@pytest.mark.parametrize(
    "manifest", ["", "{", "[]", "5", '{"status": 5}', '{"status": {"nodes": []}}', '{"status": {"compressedNodes": "!"}}', None, 7]
)
def test_a_manifest_that_cannot_be_read_tells_nothing(manifest: Any) -> None:
    assert problems_of({"pipeline_runtime": {"workflow_manifest": manifest}}) == () and problems_of({}) == ()


@pytest.mark.parametrize(
    ("name", "step"),
    [("c-1.root.train-lrf-driver", "train-lrf"), ("c-1.root.for-loop-1.0.generate.executor", "generate"), ("c-1", "shown"), ("", "shown")],
)
def test_the_step_of_a_node(name: str, step: str) -> None:
    (problem,) = problems_of(detail({"name": name, "displayName": "shown", "message": "ErrImagePull: x"}))
    assert problem.step == step


def test_names_of_child_runs() -> None:
    assert child_run_name("colours", 7) == "colours-it-0007" and child_run_name("colours", 12345) == "colours-it-12345"
    for name in (
        "colours-it-0007",
        "colours-it-12345",
        stage_run_name("colours", "warm-up"),
        stage_run_name("colours", "sealed-test"),
        "colours-it-0007-again-2",
    ):
        assert is_child_run(name, "colours")
    for name in (
        "colours",
        "colours-it-7",
        "colours-it-0007-it-0001",
        "colours-it-is-late",
        "other-it-0007",
        "colours-it-0007-again",
        "colours-again-2",
        "colours-it-0007\n",
        "coloursXit-0007",
    ):
        assert not is_child_run(name, "colours")
    assert not is_child_run("aXb-it-0001", "a.b")
    with pytest.raises(ValueError):
        child_run_name("colours", -1)
