"""Every command's name, options and help. What they do lives in the modules beside this one, imported when called."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Optional

import typer

from optimas_core._version import __version__
from optimas_core.cli._deploy_commands import add_deploy_commands

app = typer.Typer(
    name="optimas",
    help="Improve a compound AI system one component at a time; accept a change only if the whole gets better.",
    epilog="Start here: optimas init my_app && cd my_app && optimas run run.yaml",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RunYaml = Annotated[Path, typer.Argument(help="The run's run.yaml.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
WorkspaceOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--workspace", "-w", help="Workspace other than run.yaml's: a directory or s3://bucket/prefix."),
]


class Where(StrEnum):
    """Where stages are executed."""

    in_process = "in-process"
    kfp_local = "kfp-local"


LauncherOption = Annotated[
    Where, typer.Option(help="Where stages run: in this process, or as the compiled pipelines' tasks on this machine.")
]
ShardsOption = Annotated[int, typer.Option(min=1, max=16, help="kfp-local: tasks that measure preference data.")]


def _version(value: bool) -> None:
    if value:
        print(f"optimas-kube {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass


@app.command(epilog="Example: optimas init my_app")
def init(
    directory: Annotated[Path, typer.Argument(help="Directory to write; must not hold these files yet.")],
) -> None:
    """Write a complete small project: system.py, run.yaml and data, which run as written."""
    from optimas_core.cli._init import write_project

    write_project(directory)


@app.command(epilog="Example: optimas prepare")
def prepare() -> None:
    """Convert the embedded models once into this user's cache and check their digests."""
    from optimas_core.cli._prepare import prepare_models

    prepare_models()


@app.command(epilog="Example: optimas doctor run.yaml")
def doctor(run_yaml: RunYaml, workspace: WorkspaceOption = None, json_output: Json = False) -> None:
    """Check everything a run needs (spec, system, data, models, workspace, one execution) and say how to mend it."""
    from optimas_core.cli._doctor import examine

    raise typer.Exit(examine(run_yaml, workspace, json_output))


@app.command(epilog="Example: optimas estimate run.yaml")
def estimate(run_yaml: RunYaml, json_output: Json = False) -> None:
    """Calls, tokens, USD and hours a run would take at most, before anything is spent."""
    from optimas_core.cli._estimate import show_estimate

    show_estimate(run_yaml, json_output)


@app.command(epilog="Example: optimas run run.yaml")
def run(
    run_yaml: RunYaml,
    workspace: WorkspaceOption = None,
    name: Annotated[Optional[str], typer.Option(help="Run id; default: derived from the spec.")] = None,  # noqa: UP045
    seed: Annotated[Optional[int], typer.Option(help="Seed other than run.yaml's (also of the data split).")] = None,  # noqa: UP045
    skip_checks: Annotated[bool, typer.Option("--skip-checks", help="Do not ask the models before starting.")] = False,
    if_moved: Annotated[
        bool,
        typer.Option("--if-moved", help="A new run from the promoted configuration, if its score or its rewards moved; else none."),
    ] = False,
    launcher: LauncherOption = Where.in_process,
    shards: ShardsOption = 4,
    json_output: Json = False,
) -> None:
    """Optimize the system; goes on where it was if the same run exists. Ends with the verdict and the report's path."""
    from optimas_core.cli._run import optimize

    optimize(
        run_yaml,
        workspace=workspace,
        name=name,
        seed=seed,
        must_exist=False,
        check=not skip_checks,
        json_output=json_output,
        launcher=launcher.value,
        shards=shards,
        if_moved=if_moved,
    )


@app.command(epilog="Example: optimas resume run.yaml")
def resume(
    run_yaml: RunYaml,
    workspace: WorkspaceOption = None,
    name: Annotated[Optional[str], typer.Option(help="Run id; default: derived from the spec.")] = None,  # noqa: UP045
    seed: Annotated[Optional[int], typer.Option(help="The seed it was started with, if not run.yaml's.")] = None,  # noqa: UP045
    launcher: LauncherOption = Where.in_process,
    shards: ShardsOption = 4,
    json_output: Json = False,
) -> None:
    """Go on with a run that was stopped or killed; budget caps may be higher than before."""
    from optimas_core.cli._run import optimize

    optimize(
        run_yaml,
        workspace=workspace,
        name=name,
        seed=seed,
        must_exist=True,
        check=False,
        json_output=json_output,
        launcher=launcher.value,
        shards=shards,
    )


@app.command(epilog="Example: optimas status ./workspace")
def status(
    workspace: Annotated[str, typer.Argument(help="Workspace: a directory or s3://bucket/prefix.")],
    run_id: Annotated[Optional[str], typer.Argument(help="One run; default: all.")] = None,  # noqa: UP045
    json_output: Json = False,
) -> None:
    """Where the runs of a workspace stand: phase, iteration, accepted changes, spend."""
    from optimas_core.cli._inspect import show_status

    show_status(workspace, run_id, json_output)


@app.command(epilog="Example: optimas watch ./workspace quickstart-54df7df1")
def watch(
    workspace: Annotated[str, typer.Argument(help="Workspace: a directory or s3://bucket/prefix.")],
    run_id: Annotated[str, typer.Argument(help="The run.")],
    interval_s: Annotated[float, typer.Option(help="Seconds between looks.", min=0.1)] = 2.0,
) -> None:
    """Follow a run from anywhere that can read its workspace, until it is finished."""
    from optimas_core.cli._inspect import follow

    follow(workspace, run_id, interval_s)


@app.command(epilog="Example: optimas stage validate-accept run.yaml --request request.json")
def stage(
    name: Annotated[
        str,
        typer.Argument(
            help="propose, generate-preferences, train-lrf, adapt-lrf, local-optimize, validate-accept, sealed-test or drift-check."
        ),
    ],
    run_yaml: RunYaml,
    request: Annotated[Path, typer.Option(help="The stage's request as JSON: the names of what it reads.")],
    workspace: WorkspaceOption = None,
    run_name: Annotated[Optional[str], typer.Option("--name", help="Run id; default: derived from the spec.")] = None,  # noqa: UP045
    seed: Annotated[Optional[int], typer.Option(help="The seed the run was started with, if not run.yaml's.")] = None,  # noqa: UP045
) -> None:
    """Run one stage alone and print the name of what it committed; does nothing if that exists."""
    from optimas_core.cli._stage import run_stage

    run_stage(name, run_yaml, request, workspace, run_name, seed)


@app.command(epilog="Example: optimas report ./workspace quickstart-54df7df1")
def report(
    workspace: Annotated[str, typer.Argument(help="Workspace: a directory or s3://bucket/prefix.")],
    run_id: Annotated[str, typer.Argument(help="The run.")],
    output: Annotated[Optional[Path], typer.Option("--output", "-o", help="Also write the three files here.")] = None,  # noqa: UP045
    json_output: Json = False,
) -> None:
    """Write report.html, report.md and report.json of a run, also of one that is still going."""
    from optimas_core.cli._inspect import make_report

    make_report(workspace, run_id, output, json_output)


@app.command(epilog="Example: optimas diff ./workspace quickstart-54df7df1")
def diff(
    workspace: Annotated[str, typer.Argument(help="Workspace: a directory or s3://bucket/prefix.")],
    run_id: Annotated[str, typer.Argument(help="The run.")],
    before: Annotated[Optional[str], typer.Option("--from", help="Configuration digest; default: the run's start.")] = None,  # noqa: UP045
    after: Annotated[Optional[str], typer.Option("--to", help="Configuration digest; default: the run's latest.")] = None,  # noqa: UP045
    json_output: Json = False,
) -> None:
    """What differs between two configurations; prompts word by word."""
    from optimas_core.cli._inspect import show_diff

    show_diff(workspace, run_id, before, after, json_output)


@app.command(epilog="Example: optimas gc ./workspace --dry-run")
def gc(
    workspace: Annotated[str, typer.Argument(help="Workspace: a directory or s3://bucket/prefix.")],
    run_id: Annotated[Optional[str], typer.Argument(help="One run; default: all.")] = None,  # noqa: UP045
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list.")] = False,
    min_age_hours: Annotated[float, typer.Option(help="Leave younger files alone: a stage may be writing them.", min=0)] = 24.0,
    json_output: Json = False,
) -> None:
    """Remove files that no manifest names."""
    from optimas_core.cli._inspect import collect_garbage

    collect_garbage(workspace, run_id, dry_run, min_age_hours, json_output)


add_deploy_commands(app)
