"""Train the Local Reward Functions on the first preference data."""

from kfp import dsl

from components.images import TRAIN


@dsl.component(base_image=TRAIN, install_kfp_package=False)
def train_lrf(workspace: str, run_id: str, bundle: str, metrics: dsl.Output[dsl.Metrics], manifest: dsl.Output[dsl.Artifact]) -> str:
    """Train the Local Reward Functions on the first preference data."""
    from optimas_core.launchers.tasks import train_first

    return train_first(workspace, run_id, bundle, metrics.metadata, manifest.path)
