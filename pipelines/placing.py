"""Where tasks run and what they are given: parameters of every pipeline, with defaults, so that a cluster needs no new compilation.

image, train_image   what tasks run in; a system's own dependencies belong into images made FROM these
s3_secret            a secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and AWS_ENDPOINT_URL, AWS_REGION where needed
llm_secret           a secret with OPENAI_API_KEY, ANTHROPIC_API_KEY, OPTIMAS_LLM_KEY; none has to be there
cpu, memory          of each task but the controller's
gpu_type, gpus       resource name and number for training; "0" trains on the CPU, several train by one process each
node_selector, tolerations   as Kubernetes has them

What KFP fixes at compile time (image pull policy, deadlines, time to live, environment) is written into the YAML when it is submitted:
optimas_core/launchers/_pod_settings.py.
"""

from dataclasses import dataclass
from typing import Any

from kfp import dsl, kubernetes

_S3_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION")
_LLM_KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OPTIMAS_LLM_KEY")


@dataclass(frozen=True)
class Cluster:
    """A pipeline's own parameters, as channels."""

    image: Any
    s3_secret: Any
    llm_secret: Any
    cpu: Any
    memory: Any
    node_selector: Any
    tolerations: Any


def placed(task: dsl.PipelineTask, cluster: Cluster) -> dsl.PipelineTask:
    """The task in its image, with limits, secrets as environment, node selector and tolerations; never answered from KFP's cache.

    A task in a loop must have `cpu` and `memory` as inputs too: kfp 2.17 does not hand a limit into a loop by itself.
    """
    task.set_caching_options(False)
    task.set_container_image(cluster.image)
    task.set_cpu_limit(cluster.cpu).set_memory_limit(cluster.memory)
    kubernetes.use_secret_as_env(task, cluster.s3_secret, {key: key for key in _S3_KEYS}, optional=True)
    kubernetes.use_secret_as_env(task, cluster.llm_secret, {key: key for key in _LLM_KEYS}, optional=True)
    kubernetes.add_node_selector_json(task, cluster.node_selector)
    kubernetes.add_toleration_json(task, cluster.tolerations)
    return task


def with_gpus(task: dsl.PipelineTask, gpu_type: Any, gpus: Any) -> dsl.PipelineTask:
    """The task on a node with so many GPUs, and with shared memory for their workers."""
    task.set_accelerator_type(gpu_type).set_accelerator_limit(gpus)
    kubernetes.empty_dir_mount(task, volume_name="shared-memory", mount_path="/dev/shm", medium="Memory")
    return task
