"""The sealed test of a run that has ended."""

from kfp import dsl

from components.images import TRAIN
from components.sealed_test.component import sealed_test
from pipelines.placing import Cluster, placed


@dsl.pipeline(name="optimas-sealed-test", description="Both configurations on every test example, once.")
def sealed_test_of(
    workspace: str,
    run_id: str,
    bundle: str,
    before: str,
    after: str,
    train_image: str = TRAIN,
    s3_secret: str = "optimas-s3",
    llm_secret: str = "optimas-llm",
    cpu: str = "2",
    memory: str = "8Gi",
    node_selector: dict = {},
    tolerations: list = [],
):
    cluster = Cluster(train_image, s3_secret, llm_secret, cpu, memory, node_selector, tolerations)
    placed(sealed_test(workspace=workspace, run_id=run_id, bundle=bundle, before=before, after=after), cluster)
