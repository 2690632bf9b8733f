"""Look whether the promoted configuration still does what it did; where it does, the new run has ended."""

from typing import NamedTuple

from kfp import dsl

from components.images import TRAIN


@dsl.component(base_image=TRAIN, install_kfp_package=False)
def drift_check(
    workspace: str, run_id: str, bundle: str, occasion: str, metrics: dsl.Output[dsl.Metrics], manifest: dsl.Output[dsl.Artifact]
) -> NamedTuple("Outputs", [("run_id", str), ("moved", str)]):
    """Look whether the promoted configuration still does what it did; where it does, the new run has ended."""
    from optimas_core.launchers.tasks import check_drift

    return check_drift(workspace, run_id, bundle, occasion, metrics.metadata, manifest.path)
