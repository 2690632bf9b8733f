"""Names, options and help of the commands that talk to a cluster. What they do lies in `_deploy`, imported when called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Optional

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
HostOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="Address of Kubeflow Pipelines; default: OPTIMAS_KFP_HOST, this cluster's, or a port-forward by kubectl."),
]
NamespaceOption = Annotated[str, typer.Option(help="Your namespace, where the installation serves many users.")]
KfpNamespaceOption = Annotated[str, typer.Option(help="Namespace that Kubeflow Pipelines is installed in.")]
ExperimentOption = Annotated[str, typer.Option(help="Experiment that runs belong to; made if it is not there.")]
AccountOption = Annotated[str, typer.Option(help="Service account of the pods; default: the pipeline's, optimas.")]
SetOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--set", help="A setting of the cluster, as gpus=1; may be given many times. --list-settings shows all."),
]
WorkspaceOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--workspace", "-w", help="Workspace other than run.yaml's: s3://bucket/prefix."),
]


def _settings_of(pipeline: str) -> Callable[[bool], None]:
    def show(wanted: bool) -> None:
        if wanted:
            from optimas_core.cli._deploy import list_settings

            list_settings(pipeline)
            raise typer.Exit

    return show


_LIST_SETTINGS_HELP = "Print what --set takes, with defaults, and end."


def add_deploy_commands(app: typer.Typer) -> None:
    """Register submit, cancel, schedule and manifests."""
    app.command(epilog="Example: optimas submit run.yaml --wait")(submit)
    app.command(epilog="Example: optimas cancel s3://bucket/optimas quickstart-54df7df1")(cancel)
    app.command(epilog='Example: optimas schedule run.yaml --cron "0 0 2 * * 0"')(schedule)
    app.command(epilog="Example: optimas manifests --namespace team | kubectl apply -f -")(manifests)


def submit(
    run_yaml: Annotated[Path, typer.Argument(help="The run's run.yaml.", show_default=False)],
    host: HostOption = None,
    namespace: NamespaceOption = "",
    kfp_namespace: KfpNamespaceOption = "kubeflow",
    experiment: ExperimentOption = "optimas",
    service_account: AccountOption = "",
    settings: SetOption = None,
    workspace: WorkspaceOption = None,
    name: Annotated[Optional[str], typer.Option(help="Run id; default: derived from the spec.")] = None,  # noqa: UP045
    seed: Annotated[Optional[int], typer.Option(help="Seed other than run.yaml's (also of the data split).")] = None,  # noqa: UP045
    again: Annotated[bool, typer.Option("--again", help="Go on with a run that failed or was canceled on the cluster.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it to its end; exit code 1 unless it succeeds.")] = False,
    list_settings: Annotated[
        bool, typer.Option("--list-settings", is_eager=True, callback=_settings_of("controller"), help=_LIST_SETTINGS_HELP)
    ] = False,
    json_output: Json = False,
) -> None:
    """Run on a cluster with Kubeflow Pipelines; submitting the same run again attaches to it."""
    from optimas_core.cli._deploy import Place, submit_project

    place = Place(host, namespace, kfp_namespace, experiment, service_account, tuple(settings or ()))
    submit_project(run_yaml, place, workspace=workspace, name=name, seed=seed, again=again, wait=wait, json_output=json_output)


def cancel(
    workspace: Annotated[str, typer.Argument(help="Workspace: s3://bucket/prefix.")],
    run_id: Annotated[str, typer.Argument(help="The run.")],
    host: HostOption = None,
    namespace: NamespaceOption = "",
    kfp_namespace: KfpNamespaceOption = "kubeflow",
    wait_s: Annotated[float, typer.Option(help="Seconds to wait until all its pods are gone.", min=0)] = 300.0,
    json_output: Json = False,
) -> None:
    """End a submitted run and everything it started on the cluster; what it committed stays."""
    from optimas_core.cli._deploy import Place, cancel_run

    cancel_run(workspace, run_id, Place(host, namespace, kfp_namespace), wait_s, json_output)


def schedule(
    run_yaml: Annotated[Optional[Path], typer.Argument(help="The run's run.yaml; not needed with --list.")] = None,  # noqa: UP045
    cron: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Six fields: second, minute, hour, day of month, month, day of week."),
    ] = None,
    list_all: Annotated[bool, typer.Option("--list", help="Show the schedules of the experiment.")] = False,
    pause: Annotated[bool, typer.Option("--pause", help="Start no further run; a running one goes on.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Start runs again.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Remove the schedule once nothing of it runs.")] = False,
    name: Annotated[Optional[str], typer.Option(help="Name of the schedule; default: run.yaml's name or the system's.")] = None,  # noqa: UP045
    host: HostOption = None,
    namespace: NamespaceOption = "",
    kfp_namespace: KfpNamespaceOption = "kubeflow",
    experiment: ExperimentOption = "optimas",
    service_account: AccountOption = "",
    settings: SetOption = None,
    workspace: WorkspaceOption = None,
    wait_s: Annotated[
        float, typer.Option(help="Seconds to wait for a running run of the schedule that is replaced or deleted.", min=0)
    ] = 0.0,
    list_settings: Annotated[
        bool, typer.Option("--list-settings", is_eager=True, callback=_settings_of("recurring"), help=_LIST_SETTINGS_HELP)
    ] = False,
    json_output: Json = False,
) -> None:
    """Optimize again at fixed times; setting the same schedule again changes nothing, another one replaces it."""
    from optimas_core.cli._deploy import Place, manage_schedule

    place = Place(host, namespace, kfp_namespace, experiment, service_account, tuple(settings or ()))
    actions = {"list": list_all, "pause": pause, "resume": resume, "delete": delete}
    chosen = [action for action, wanted in actions.items() if wanted]
    manage_schedule(run_yaml, place, chosen, cron=cron, name=name, workspace=workspace, wait_s=wait_s, json_output=json_output)


def manifests(
    namespace: Annotated[str, typer.Option(help="Where runs run.")] = "kubeflow",
    multi_user: Annotated[bool, typer.Option("--multi-user", help="The installation serves many users.")] = False,
    launcher_secret: Annotated[
        str, typer.Option(help="Secret with the key of KFP's artifact store, read by KFP's own containers; empty: none.")
    ] = "mlpipeline-minio-artifact",
) -> None:
    """Print the service accounts of runs and the few rights they need, for kubectl."""
    from optimas_core.cli._manifests import print_manifests

    print_manifests(namespace, multi_user=multi_user, launcher_secret=launcher_secret)
