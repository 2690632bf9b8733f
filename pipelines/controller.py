"""The looping controller: checks, first data over shards, training, the loop in one small task, the report.

The loop is a task because KFP has none, and one unrolled outgrows what the cluster's database takes: this pipeline has the same size at
any number of iterations, and each iteration is a KFP run of its own.
"""

from kfp import dsl

from components.controller.component import controller
from components.generate_preferences.component import generate_preferences
from components.images import RUNTIME, TRAIN
from components.prerequisites_check.component import prerequisites_check
from components.report.component import report
from components.train_lrf.component import train_lrf
from pipelines.placing import Cluster, placed, with_gpus


@dsl.pipeline(name="optimas-controller", description="A whole run: checks, first data, training, the loop, the report.")
def controller_of(
    workspace: str,
    run_id: str,
    bundle: str,
    shards: int = 4,
    shard_indexes: list[int] = [0, 1, 2, 3],
    experiment: str = "optimas",
    service_account: str = "optimas",
    namespace: str = "",
    image: str = RUNTIME,
    controller_cpu: str = "1",
    controller_memory: str = "256Mi",
    cluster: dict = {},
    train_image: str = TRAIN,
    s3_secret: str = "optimas-s3",
    llm_secret: str = "optimas-llm",
    cpu: str = "2",
    memory: str = "8Gi",
    gpu_type: str = "nvidia.com/gpu",
    gpus: str = "0",
    node_selector: dict = {},
    tolerations: list = [],
):
    heavy = Cluster(train_image, s3_secret, llm_secret, cpu, memory, node_selector, tolerations)
    light = Cluster(image, s3_secret, llm_secret, controller_cpu, controller_memory, node_selector, tolerations)
    common = {"workspace": workspace, "run_id": run_id, "bundle": bundle}
    checked = placed(prerequisites_check(**common), heavy)
    with dsl.ParallelFor(items=shard_indexes) as shard:
        measured = placed(generate_preferences(**common, state=0, shard=shard, shards=shards, cpu=cpu, memory=memory).after(checked), heavy)
    trained = with_gpus(placed(train_lrf(**common), heavy), gpu_type, gpus).after(measured)
    looped = placed(
        controller(**common, shards=shards, experiment=experiment, service_account=service_account, namespace=namespace, cluster=cluster),
        light,
    ).after(trained)
    placed(report(workspace=workspace, run_id=run_id), heavy).after(looped)
