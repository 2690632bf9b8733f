"""One task of the pipelines as a program: `python -m optimas_core.launchers.stage_task train-first --workspace … --run-id … --bundle …`.

For Kubernetes Jobs and TrainJobs, which start a program and not a component. The options are the parameters of the task's function in
`tasks`; what it returns (an artifact's name, a number) is printed as `result: …`, since a pod's log mixes stdout and stderr in any order.
It may be run again or twice at once, as every task.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

from optimas_core.errors import OptimasError
from optimas_core.launchers import tasks

TASKS: dict[str, Callable[..., Any]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        tasks.check_prerequisites,
        tasks.check_drift,
        tasks.propose_changes,
        tasks.measure_preferences,
        tasks.train_first,
        tasks.adapt_rewards,
        tasks.optimize_locally,
        tasks.validate_choice,
        tasks.read_test,
    )
}
_FIGURES, _MANIFEST = "figures", "manifest"


def read_arguments(arguments: Sequence[str]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The task's function and what it is called with, less `figures` and `manifest`, which are for a pipeline's page.

    Raises:
        SystemExit: an unknown task or option, or one that is missing.
    """
    parser = argparse.ArgumentParser(prog="optimas_core.launchers.stage_task", description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="task", required=True)
    for name, function in TASKS.items():
        command = commands.add_parser(name, help=(function.__doc__ or "").partition("\n")[0])
        for parameter in _parameters(function):
            kind = int if parameter.annotation in (int, "int") else str
            command.add_argument(f"--{parameter.name.replace('_', '-')}", dest=parameter.name, type=kind, required=True)
    found = vars(parser.parse_args(arguments))
    return TASKS[found.pop("task")], found


def run(arguments: Sequence[str]) -> Any:
    """Do the task; its figures go to the log, one line each.

    Raises:
        OptimasError: its last try failed.
    """
    function, given = read_arguments(arguments)
    figures: dict[str, Any] = {}
    if _FIGURES in inspect.signature(function).parameters:
        given[_FIGURES] = figures
    result = function(**given)
    for name, value in figures.items():
        print(f"{name}: {value}", file=sys.stderr)
    return result


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return [parameter for parameter in inspect.signature(function).parameters.values() if parameter.name not in (_FIGURES, _MANIFEST)]


def main() -> None:
    """Entry point; our errors become one sentence and their exit code."""
    from optimas_core._keyless import keyless_output

    with keyless_output():
        try:
            print(f"result: {run(sys.argv[1:])}")
        except OptimasError as error:
            print(f"optimas: {error}", file=sys.stderr, flush=True)
            raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
