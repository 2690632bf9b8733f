"""Measure one shard of preference data into the call cache of the workspace; returns the rollouts done."""

from kfp import dsl

from components.images import TRAIN


@dsl.component(base_image=TRAIN, install_kfp_package=False)
def generate_preferences(workspace: str, run_id: str, bundle: str, state: int, shard: int, shards: int, cpu: str, memory: str) -> int:
    """Measure one shard of preference data into the call cache of the workspace; returns the rollouts done."""
    from optimas_core.launchers.tasks import measure_preferences

    return measure_preferences(workspace, run_id, bundle, state, shard, shards)
