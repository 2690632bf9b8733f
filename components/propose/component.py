"""Select the component and knob of an iteration and make proposals for it."""

from kfp import dsl

from components.images import TRAIN


@dsl.component(base_image=TRAIN, install_kfp_package=False)
def propose(
    workspace: str, run_id: str, bundle: str, state: int, metrics: dsl.Output[dsl.Metrics], manifest: dsl.Output[dsl.Artifact]
) -> str:
    """Select the component and knob of an iteration and make proposals for it."""
    from optimas_core.launchers.tasks import propose_changes

    return propose_changes(workspace, run_id, bundle, state, metrics.metadata, manifest.path)
