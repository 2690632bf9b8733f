"""What a schedule runs: a look at whether anything moved, and only then a whole run that starts from what is promoted."""

from kfp import dsl

from components.drift_check.component import drift_check
from components.images import RUNTIME, TRAIN
from components.report.component import report
from pipelines.controller import controller_of
from pipelines.placing import Cluster, placed


@dsl.pipeline(name="optimas-unmoved", description="The report of a run that ended because nothing moved.")
def unmoved(
    workspace: str,
    run_id: str,
    image: str,
    s3_secret: str,
    llm_secret: str,
    cpu: str,
    memory: str,
    node_selector: dict,
    tolerations: list,
):
    there = Cluster(image, s3_secret, llm_secret, cpu, memory, node_selector, tolerations)
    placed(report(workspace=workspace, run_id=run_id), there)


@dsl.pipeline(name="optimas-recurring", description="Drift check; where something moved, a whole run from the promoted configuration.")
def recurring_of(
    workspace: str,
    run_id: str,
    bundle: str,
    shards: int = 4,
    shard_indexes: list = [0, 1, 2, 3],
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
    looked = placed(drift_check(workspace=workspace, run_id=run_id, bundle=bundle, occasion=dsl.PIPELINE_JOB_ID_PLACEHOLDER), heavy)
    with dsl.If(looked.outputs["moved"] == "yes"):
        controller_of(
            workspace=workspace,
            run_id=looked.outputs["run_id"],
            bundle=bundle,
            shards=shards,
            shard_indexes=shard_indexes,
            experiment=experiment,
            service_account=service_account,
            namespace=namespace,
            image=image,
            controller_cpu=controller_cpu,
            controller_memory=controller_memory,
            cluster=cluster,
            train_image=train_image,
            s3_secret=s3_secret,
            llm_secret=llm_secret,
            cpu=cpu,
            memory=memory,
            gpu_type=gpu_type,
            gpus=gpus,
            node_selector=node_selector,
            tolerations=tolerations,
        ).set_caching_options(False)
    with dsl.Else():
        unmoved(
            workspace=workspace,
            run_id=looked.outputs["run_id"],
            image=image,
            s3_secret=s3_secret,
            llm_secret=llm_secret,
            cpu=controller_cpu,
            memory=controller_memory,
            node_selector=node_selector,
            tolerations=tolerations,
        ).set_caching_options(False)
