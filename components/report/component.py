"""Write the run's report; the page stands on the run's own page too."""

from kfp import dsl

from components.images import RUNTIME


@dsl.component(base_image=RUNTIME, install_kfp_package=False)
def report(
    workspace: str, run_id: str, page: dsl.Output[dsl.HTML], metrics: dsl.Output[dsl.Metrics], manifest: dsl.Output[dsl.Artifact]
) -> str:
    """Write the run's report; the page stands on the run's own page too."""
    from optimas_core.reporting import report_task

    return report_task(workspace, run_id, page.path, metrics.metadata, manifest.path)
