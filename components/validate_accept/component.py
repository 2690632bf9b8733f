"""Measure the chosen candidate against the incumbent and let the gate decide."""

from kfp import dsl

from components.images import TRAIN


@dsl.component(base_image=TRAIN, install_kfp_package=False)
def validate_accept(
    workspace: str, run_id: str, bundle: str, state: int, ranking: str, metrics: dsl.Output[dsl.Metrics], manifest: dsl.Output[dsl.Artifact]
) -> str:
    """Measure the chosen candidate against the incumbent and let the gate decide."""
    from optimas_core.launchers.tasks import validate_choice

    return validate_choice(workspace, run_id, bundle, state, ranking, metrics.metadata, manifest.path)
