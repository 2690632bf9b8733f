"""Training beyond one node: a Kubeflow TrainJob (Trainer 2.2 or later), built by a pure function.

Kubeflow Trainer sets the addresses and ranks that torchrun reads, one torchrun for each node; the workers share each batch, and the
first of them commits. Within one node no TrainJob is needed: the task itself starts a worker for each GPU.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from optimas_core.deploy._access import Manifest
from optimas_core.deploy._pods import WRITABLE, JobSettings, container_environment, container_security, pod_security, stage_command
from optimas_core.errors import SpecError

_API = "trainer.kubeflow.org/v1alpha1"
_REPLICATED_JOB, _CONTAINER = "node", "node"
_MANAGER = "optimas.dev/train-job"
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class TrainJobSettings:
    """`job.gpus` is the number of GPUs of each node; 0 trains on the CPUs, one worker a node. `runtime`: a ClusterTrainingRuntime
    of torch whose replicated job and container are both called "node", as in Trainer's own.
    """

    job: JobSettings
    nodes: int
    runtime: str = "torch-distributed"


def train_job(name: str, task: str, arguments: Mapping[str, str | int], settings: TrainJobSettings) -> Manifest:
    """The manifest of one task of the pipelines (`train-first`, `{"workspace": …}`) under torchrun on `nodes` nodes.

    Raises:
        SpecError: a name that Kubernetes does not take, no node, or fewer GPUs than none.
    """
    job = settings.job
    if not _NAME.fullmatch(name):
        raise SpecError(
            f"{name!r} is no name of a TrainJob.", remedy="Give at most 63 lower-case letters, digits and hyphens that begin with a letter."
        )
    if settings.nodes < 1 or job.gpus < 0:
        raise SpecError(f"{settings.nodes} nodes with {job.gpus} GPUs each cannot be asked for.", remedy="Give at least one node.")
    resources: dict[str, str | int] = {"cpu": job.cpu, "memory": job.memory} | ({job.gpu_type: job.gpus} if job.gpus else {})
    return {
        "apiVersion": _API,
        "kind": "TrainJob",
        "metadata": {"name": name, "namespace": job.namespace, "labels": {"app.kubernetes.io/name": "optimas"}},
        "spec": {
            "runtimeRef": {"apiGroup": "trainer.kubeflow.org", "kind": "ClusterTrainingRuntime", "name": settings.runtime},
            "activeDeadlineSeconds": job.deadline_s,
            "trainer": {
                "image": job.image,
                "numNodes": settings.nodes,
                "numProcPerNode": max(1, job.gpus),
                "command": ["torchrun"],
                "args": stage_command(task, arguments)[1:],
                "env": container_environment(job),
                "resourcesPerNode": {"requests": dict(resources), "limits": dict(resources)},
            },
            "runtimePatches": [{"manager": _MANAGER, "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [_node(job)]}}}}],
        },
    }


def _node(job: JobSettings) -> Manifest:
    """What the trainer's own fields cannot say: account, user, places to write in, shared memory for the workers of a node."""
    volumes = {"/dev/shm": {"medium": "Memory"}} | {path: {"sizeLimit": size} for path, size in WRITABLE.items()}
    names = {path: f"optimas-{number}" for number, path in enumerate(volumes)}
    pod = {
        "serviceAccountName": job.account,
        "securityContext": pod_security(job.user_id),
        "nodeSelector": dict(job.node_selector),
        "tolerations": list(job.tolerations),
        "containers": [
            {
                "name": _CONTAINER,
                "securityContext": container_security(),
                "volumeMounts": [{"name": names[path], "mountPath": path} for path in volumes],
            }
        ],
        "volumes": [{"name": names[path], "emptyDir": volume} for path, volume in volumes.items()],
    }
    return {"name": _REPLICATED_JOB, "template": {"spec": {"template": {"spec": pod}}}}
