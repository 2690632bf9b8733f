"""Drive the run's loop: one KFP run for each iteration, found again after any restart."""

from kfp import dsl

from components.images import RUNTIME


@dsl.container_component
def controller(workspace: str, run_id: str, bundle: str, shards: int, experiment: str, service_account: str, namespace: str, cluster: dict):
    """Drive the run's loop: one KFP run for each iteration, found again after any restart."""
    return dsl.ContainerSpec(
        image=RUNTIME,
        command=["python", "-m", "optimas_core.launchers.controller_task"],
        args=[
            "--workspace",
            workspace,
            "--run-id",
            run_id,
            "--bundle",
            bundle,
            "--shards",
            shards,
            "--experiment",
            experiment,
            "--service-account",
            service_account,
            "--namespace",
            namespace,
            "--cluster",
            cluster,
        ],
    )
