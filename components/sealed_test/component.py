"""Read the sealed test of two configurations, once."""

from kfp import dsl

from components.images import TRAIN


@dsl.component(base_image=TRAIN, install_kfp_package=False)
def sealed_test(
    workspace: str, run_id: str, bundle: str, before: str, after: str, metrics: dsl.Output[dsl.Metrics], manifest: dsl.Output[dsl.Artifact]
) -> str:
    """Read the sealed test of two configurations, once."""
    from optimas_core.launchers.tasks import read_test

    return read_test(workspace, run_id, bundle, before, after, metrics.metadata, manifest.path)
