"""First preference data over shards, then the Local Reward Functions."""

from kfp import dsl

from components.generate_preferences.component import generate_preferences
from components.images import TRAIN
from components.train_lrf.component import train_lrf
from pipelines.placing import Cluster, placed, with_gpus


@dsl.pipeline(name="optimas-warm-up", description="First preference data and Local Reward Functions of a run.")
def warm_up(
    workspace: str,
    run_id: str,
    bundle: str,
    shards: int,
    shard_indexes: list[int],
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
    cluster = Cluster(train_image, s3_secret, llm_secret, cpu, memory, node_selector, tolerations)
    common = {"workspace": workspace, "run_id": run_id, "bundle": bundle}
    with dsl.ParallelFor(items=shard_indexes) as shard:
        measured = placed(generate_preferences(**common, state=0, shard=shard, shards=shards, cpu=cpu, memory=memory), cluster)
    with_gpus(placed(train_lrf(**common), cluster), gpu_type, gpus).after(measured)
