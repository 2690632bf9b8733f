"""Stages that ask for GPUs, and the TrainJob: what a real scheduler and a real API server make of our manifests."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from optimas_core.deploy import JobSettings, TrainJobSettings, stage_job, train_job

GPU = "nvidia.com/gpu"
ARGUMENTS = {"workspace": "s3://bucket/optimas", "run_id": "r-1", "bundle": "a" * 64}


@pytest.fixture
def gpus(cluster: Any) -> int:
    """GPUs of the node that has the most."""
    nodes = json.loads(cluster.kubectl("get", "nodes", "-o", "json"))["items"]
    most = max(int(node["status"]["allocatable"].get(GPU, "0")) for node in nodes)
    if most == 0:
        pytest.skip(f"no node has {GPU}")
    return most


def gpu_job(cluster: Any, image: str, name: str, gpus: int) -> dict[str, Any]:
    job = stage_job(name, "train-first", ARGUMENTS, JobSettings(cluster.namespace, image, gpus=gpus, cpu="1", memory="256Mi", tries=1))
    job["spec"]["template"]["spec"]["containers"][0]["command"] = ["true"]
    return job


def test_a_stage_that_asks_for_gpus_is_placed_where_they_are(cluster: Any, runtime_image: str, gpus: int) -> None:
    cluster.apply(gpu_job(cluster, runtime_image, "with-gpus", gpus))
    cluster.wait("the job on the GPU node", lambda: cluster.get("job", "with-gpus")["status"].get("succeeded"))
    (pod,) = cluster.pods_of("with-gpus")
    node = json.loads(cluster.kubectl("get", "node", pod["spec"]["nodeName"], "-o", "json"))
    assert int(node["status"]["allocatable"][GPU]) >= gpus


def test_a_stage_that_asks_for_more_than_there_are_says_what_it_waits_for(cluster: Any, runtime_image: str, gpus: int) -> None:
    cluster.apply(gpu_job(cluster, runtime_image, "too-many-gpus", gpus + 1))

    def condition() -> str | None:
        pods = cluster.pods_of("too-many-gpus")
        found = [item for pod in pods for item in pod["status"].get("conditions", []) if item.get("reason") == "Unschedulable"]
        return found[0]["message"] if found else None

    assert f"Insufficient {GPU}" in cluster.wait("the scheduler's word", condition, 60.0)
    cluster.kubectl("delete", "job", "too-many-gpus", "-n", cluster.namespace)


def manifest(cluster: Any) -> dict[str, Any]:
    if "NotFound" in cluster.kubectl("get", "crd", "trainjobs.trainer.kubeflow.org", check=False):
        pytest.skip("the cluster has no trainjobs.trainer.kubeflow.org")
    job = JobSettings(cluster.namespace, "optimas-train:1", gpus=8, node_selector={"pool": "gpu"}, tolerations=({"operator": "Exists"},))
    return train_job("train", "train-first", ARGUMENTS, TrainJobSettings(job, nodes=2))


def test_a_train_job_is_taken_as_it_is_by_the_api_server(cluster: Any) -> None:
    wanted = manifest(cluster)
    told = cluster.kubectl("create", "--dry-run=server", "--validate=strict", "-o", "json", "-f", "-", given=json.dumps(wanted))
    kept = json.loads(told)["spec"]
    assert kept["trainer"] == wanted["spec"]["trainer"] and kept["runtimeRef"] == wanted["spec"]["runtimeRef"]
    (patch,) = kept["runtimePatches"]
    assert patch["trainingRuntimeSpec"] == wanted["spec"]["runtimePatches"][0]["trainingRuntimeSpec"], "nothing was pruned"


def test_a_field_that_is_no_train_jobs_is_refused(cluster: Any) -> None:
    wrong = copy.deepcopy(manifest(cluster))
    wrong["spec"]["trainer"]["numberOfNodes"] = 2
    said = cluster.kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", given=json.dumps(wrong), check=False)
    assert 'unknown field "spec.trainer.numberOfNodes"' in said
