"""First preference data over shards, then the Local Reward Functions."""

from kfp import dsl

from components.generate_preferences.component import generate_preferences
from components.train_lrf.component import train_lrf


@dsl.pipeline(name="optimas-warm-up", description="First preference data and Local Reward Functions of a run.")
def warm_up(workspace: str, run_id: str, bundle: str, shards: int, shard_indexes: list):
    with dsl.ParallelFor(items=shard_indexes) as shard:
        measured = generate_preferences(
            workspace=workspace, run_id=run_id, bundle=bundle, state=0, shard=shard, shards=shards
        ).set_caching_options(False)
    train_lrf(workspace=workspace, run_id=run_id, bundle=bundle).after(measured).set_caching_options(False)
