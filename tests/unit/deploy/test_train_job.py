"""The TrainJob manifest: what torchrun is given on each node. A cluster test shows it to a real API server."""

from __future__ import annotations

import pytest

from optimas_core.deploy import JobSettings, TrainJobSettings, train_job
from optimas_core.errors import SpecError
from optimas_core.launchers.stage_task import read_arguments
from optimas_core.launchers.tasks import train_first

ARGUMENTS = {"workspace": "s3://b/p", "run_id": "r-1", "bundle": "a" * 64}
JOB = JobSettings(namespace="team", image="optimas-train:1", gpus=4, tolerations=({"key": "gpu", "operator": "Exists"},))


def test_each_node_runs_one_torchrun_with_a_worker_for_each_gpu() -> None:
    manifest = train_job("train", "train-first", ARGUMENTS, TrainJobSettings(JOB, nodes=3))
    trainer = manifest["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"], trainer["image"]) == (3, 4, "optimas-train:1")
    assert trainer["resourcesPerNode"]["limits"]["nvidia.com/gpu"] == trainer["resourcesPerNode"]["requests"]["nvidia.com/gpu"] == 4
    assert trainer["command"] == ["torchrun"] and trainer["args"][:2] == ["-m", "optimas_core.launchers.stage_task"]


def test_its_arguments_are_what_the_task_takes() -> None:
    trainer = train_job("train", "train-first", ARGUMENTS, TrainJobSettings(JOB, nodes=2))["spec"]["trainer"]
    function, given = read_arguments(trainer["args"][2:])
    assert function is train_first and given == ARGUMENTS


def test_keys_come_from_secrets_and_none_stands_in_the_manifest() -> None:
    environment = train_job("train", "train-first", ARGUMENTS, TrainJobSettings(JOB, nodes=2))["spec"]["trainer"]["env"]
    assert {item["name"] for item in environment} >= {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "OPENAI_API_KEY"}
    assert all(item["valueFrom"]["secretKeyRef"]["optional"] is True and "value" not in item for item in environment)


def test_its_pods_have_our_account_a_user_that_is_not_root_and_shared_memory() -> None:
    manifest = train_job("train", "train-first", ARGUMENTS, TrainJobSettings(JOB, nodes=2))
    (patch,) = manifest["spec"]["runtimePatches"]
    (node,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = node["template"]["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "optimas" and pod["securityContext"]["runAsNonRoot"] is True
    assert pod["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert set(mounted) == {"/dev/shm", "/tmp", "/home/optimas"}
    volumes = {volume["name"]: volume["emptyDir"] for volume in pod["volumes"]}
    assert volumes[mounted["/dev/shm"]] == {"medium": "Memory"} and set(volumes) == set(mounted.values())


def test_without_gpus_each_node_has_one_worker_and_asks_for_none() -> None:
    trainer = train_job("train", "train-first", ARGUMENTS, TrainJobSettings(JobSettings("team", "i"), nodes=2))["spec"]["trainer"]
    assert trainer["numProcPerNode"] == 1 and "nvidia.com/gpu" not in trainer["resourcesPerNode"]["limits"]


@pytest.mark.parametrize("name", ["Train", "1train", "train_lrf", "train-", "t" * 64, ""])
def test_a_name_that_kubernetes_refuses_is_refused_here(name: str) -> None:
    with pytest.raises(SpecError, match="no name of a TrainJob"):
        train_job(name, "train-first", ARGUMENTS, TrainJobSettings(JOB, nodes=2))


def test_no_node_is_refused() -> None:
    with pytest.raises(SpecError, match="0 nodes"):
        train_job("train", "train-first", ARGUMENTS, TrainJobSettings(JOB, nodes=0))
