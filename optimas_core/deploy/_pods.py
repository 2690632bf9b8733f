"""Pods without Kubeflow Pipelines: a stage as a Kubernetes Job, generated code in a sandbox. Pure functions.

What every container is given: a number of a user that is not root, a read-only root file system, no capability, no way to more rights,
and two places to write in, /tmp and its home.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from optimas_core.deploy._access import SANDBOX, SANDBOX_LABEL, STAGES, Manifest

USER_ID = 65532
"""The user of the images; any other number works too."""
WRITABLE = {"/tmp": "8Gi", "/home/optimas": "16Gi"}
"""Where a container of ours may write, and how much."""
S3_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION")
LLM_KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OPTIMAS_LLM_KEY")
_TASK_MODULE = "optimas_core.launchers.stage_task"


@dataclass(frozen=True, slots=True)
class JobSettings:
    """Where and with what a stage runs. The names and defaults are those of the pipelines' parameters (pipelines/placing.py)."""

    namespace: str
    image: str
    s3_secret: str = "optimas-s3"
    llm_secret: str = "optimas-llm"
    environment: Mapping[str, str] = field(default_factory=dict)
    account: str = STAGES
    user_id: int = USER_ID
    cpu: str = "2"
    memory: str = "8Gi"
    gpus: int = 0
    gpu_type: str = "nvidia.com/gpu"
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Manifest, ...] = ()
    image_pull_policy: str = "IfNotPresent"
    tries: int = 3
    deadline_s: int = 24 * 3600
    kept_s: int = 24 * 3600


def stage_command(task: str, arguments: Mapping[str, str | int]) -> list[str]:
    """What a container runs for one task of the pipelines: `train-first`, `{"workspace": …, "run_id": …, "bundle": …}`."""
    options = [part for name, value in arguments.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    return ["python", "-m", _TASK_MODULE, task, *options]


def container_environment(settings: JobSettings) -> list[Manifest]:
    """Plain values, and the known keys of the two secrets as far as they are there; nothing of a secret stands in the manifest."""
    found: list[Manifest] = [{"name": name, "value": value} for name, value in sorted(settings.environment.items())]
    for secret, keys in ((settings.s3_secret, S3_KEYS), (settings.llm_secret, LLM_KEYS)):
        for key in keys if secret else ():
            if key not in settings.environment:
                found.append({"name": key, "valueFrom": {"secretKeyRef": {"name": secret, "key": key, "optional": True}}})
    return found


def stage_job(name: str, task: str, arguments: Mapping[str, str | int], settings: JobSettings) -> Manifest:
    """A Job that runs one task to its end; killed, it is started again (`tries` pods at most) and goes on from the workspace."""
    limits: dict[str, str | int] = {"cpu": settings.cpu, "memory": settings.memory}
    if settings.gpus:
        limits[settings.gpu_type] = settings.gpus
    container = {
        "name": "stage",
        "image": settings.image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": stage_command(task, arguments),
        "env": container_environment(settings),
        "resources": {"limits": limits},
    }
    pod = _locked_pod(container, settings.account, settings.user_id, WRITABLE)
    pod |= {"nodeSelector": dict(settings.node_selector), "tolerations": list(settings.tolerations)}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": settings.namespace, "labels": {"app.kubernetes.io/name": "optimas"}},
        "spec": {
            "backoffLimit": settings.tries - 1,
            "activeDeadlineSeconds": settings.deadline_s,
            "ttlSecondsAfterFinished": settings.kept_s,
            "template": {"metadata": {"labels": {"app.kubernetes.io/name": "optimas"}}, "spec": pod},
        },
    }


def sandbox_pod(name: str, namespace: str, image: str, program: str, *, deadline_s: int = 60, memory: str = "256Mi") -> Manifest:
    """A pod that runs `program` (Python source of generated code) once: no token, no environment of ours, 16 MiB to write in.

    The network is closed by the policy of `access_manifests`, which goes by this pod's label and needs a cluster that enforces policies.
    """
    container = {
        "name": "sandbox",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-I", "-c", program],
        "resources": {"limits": {"cpu": "1", "memory": memory, "ephemeral-storage": "64Mi"}},
    }
    pod = _locked_pod(container, SANDBOX, USER_ID, {"/tmp": "16Mi"})
    pod |= {
        "activeDeadlineSeconds": deadline_s,
        "terminationGracePeriodSeconds": 1,  # a program that ignores the signal is not waited for
        "enableServiceLinks": False,
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["127.0.0.1"]},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app.kubernetes.io/name": "optimas", **SANDBOX_LABEL}},
        "spec": pod,
    }


def container_security() -> Manifest:
    return {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def pod_security(user_id: int) -> Manifest:
    return {
        "runAsNonRoot": True,
        "runAsUser": user_id,
        "runAsGroup": user_id,
        "fsGroup": user_id,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _locked_pod(container: dict[str, Any], account: str, user_id: int, writable: Mapping[str, str]) -> Manifest:
    """`writable`: path -> size limit of an empty volume. A pod that does not speak to the cluster gets no token."""
    volumes = {path: f"writable-{number}" for number, path in enumerate(writable)}
    container |= {
        "securityContext": container_security(),
        "volumeMounts": [{"name": name, "mountPath": path} for path, name in volumes.items()],
    }
    return {
        "serviceAccountName": account,
        "automountServiceAccountToken": False,
        "restartPolicy": "Never",
        "securityContext": pod_security(user_id),
        "containers": [container],
        "volumes": [{"name": name, "emptyDir": {"sizeLimit": writable[path]}} for path, name in volumes.items()],
    }
