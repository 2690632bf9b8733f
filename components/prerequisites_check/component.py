"""Check what a run needs before it costs anything: workspace, code, data, models, backbone."""

from kfp import dsl

from components.images import TRAIN


@dsl.component(base_image=TRAIN, install_kfp_package=False)
def prerequisites_check(workspace: str, run_id: str, bundle: str) -> str:
    """Check what a run needs before it costs anything: workspace, code, data, models, backbone."""
    from optimas_core.launchers.tasks import check_prerequisites

    return check_prerequisites(workspace, run_id, bundle)
