"""One iteration: select and propose, label the mini-batch over shards, adapt, choose, validate. The same size at any iteration."""

from kfp import dsl

from components.adapt_lrf.component import adapt_lrf
from components.generate_preferences.component import generate_preferences
from components.images import TRAIN
from components.local_optimize.component import local_optimize
from components.propose.component import propose
from components.validate_accept.component import validate_accept
from pipelines.placing import Cluster, placed, with_gpus


@dsl.pipeline(name="optimas-iteration", description="One iteration of a run, from the state that it follows to the gate's verdict.")
def iteration(
    workspace: str,
    run_id: str,
    bundle: str,
    state: int,
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
    common = {"workspace": workspace, "run_id": run_id, "bundle": bundle, "state": state}
    proposed = placed(propose(**common), cluster)
    proposals = proposed.outputs["Output"]
    with dsl.ParallelFor(items=shard_indexes) as shard:
        measured = placed(generate_preferences(**common, shard=shard, shards=shards, cpu=cpu, memory=memory).after(proposed), cluster)
    adapted = with_gpus(placed(adapt_lrf(**common, proposals=proposals), cluster), gpu_type, gpus).after(measured)
    chosen = placed(local_optimize(**common, proposals=proposals, lrf=adapted.outputs["Output"]), cluster)
    placed(validate_accept(**common, ranking=chosen.outputs["Output"]), cluster)
