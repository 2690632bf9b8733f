"""Adapt the Local Reward Functions to the iteration's mini-batch."""

from kfp import dsl

from components.images import TRAIN


@dsl.component(base_image=TRAIN, install_kfp_package=False)
def adapt_lrf(
    workspace: str,
    run_id: str,
    bundle: str,
    state: int,
    proposals: str,
    metrics: dsl.Output[dsl.Metrics],
    manifest: dsl.Output[dsl.Artifact],
) -> str:
    """Adapt the Local Reward Functions to the iteration's mini-batch."""
    from optimas_core.launchers.tasks import adapt_rewards

    return adapt_rewards(workspace, run_id, bundle, state, proposals, metrics.metadata, manifest.path)
