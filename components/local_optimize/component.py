"""Rank the candidates of one component by local reward and choose one."""

from kfp import dsl

from components.images import TRAIN


@dsl.component(base_image=TRAIN, install_kfp_package=False)
def local_optimize(
    workspace: str,
    run_id: str,
    bundle: str,
    state: int,
    proposals: str,
    lrf: str,
    metrics: dsl.Output[dsl.Metrics],
    manifest: dsl.Output[dsl.Artifact],
) -> str:
    """Rank the candidates of one component by local reward and choose one."""
    from optimas_core.launchers.tasks import optimize_locally

    return optimize_locally(workspace, run_id, bundle, state, proposals, lrf, metrics.metadata, manifest.path)
