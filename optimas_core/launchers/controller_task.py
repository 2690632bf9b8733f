"""The controller as a task of the cluster: `python -m optimas_core.launchers.controller_task`. Small, restartable, without torch.

It holds the run's lease, submits one KFP run for each iteration and appends the states. Killed and started again it finds the KFP
run that it waited for; failures of infrastructure are tried again here, everything else ends it with one sentence.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress

from optimas_core.artifacts import Lease
from optimas_core.canonical import parse_json
from optimas_core.controller import Controller, RunState
from optimas_core.errors import LeaseLost, OptimasError
from optimas_core.launchers._kfp import ClusterSettings, KubeflowPipelines
from optimas_core.launchers._pipelines import PipelineLauncher, Placed
from optimas_core.launchers._tasks import open_task, retries, write_outcome
from optimas_core.launchers.kfp_api import KfpApi, KfpHost, connect
from optimas_core.stages import StageContext

TASK = "controller"
_LEASE_WAIT_S = 120.0
_ATTEMPTS, _BACKOFF_S = 5, 5.0


def say(text: str) -> None:
    """A line of the pod's log."""
    print(text, file=sys.stderr, flush=True)


def drive(context: StageContext, api: KfpApi, settings: ClusterSettings, placed: Placed) -> RunState:
    """Hold the lease and step until the run is finished.

    Raises:
        LeaseHeld: another process drives the run.
        OptimasError: what stopped it; everything committed stays.
    """
    lease = Lease(context.run)
    lease.acquire(wait_s=_LEASE_WAIT_S)
    with lease.keep():
        context.before_commit = lease.check
        launcher = PipelineLauncher(context, KubeflowPipelines(api, settings, say=say, check=lease.check), placed)
        return Controller(context, launcher, lease, on_state=_told).run()


def run(arguments: argparse.Namespace) -> int:
    """Drive the run to its end, again after failures of infrastructure; returns the exit code."""
    again = retries(_ATTEMPTS, _BACKOFF_S, say)
    context = open_task(arguments.workspace, arguments.run_id, arguments.bundle, for_the_test=True)
    settings = ClusterSettings(arguments.experiment, arguments.service_account, arguments.cluster)
    placed = Placed(arguments.workspace, arguments.bundle, arguments.shards)
    try:
        with connect(KfpHost(namespace=arguments.namespace)) as api:
            last = again(lambda: drive(context, api, settings, placed))
    except OptimasError as error:
        if not isinstance(error, LeaseLost):  # whoever took the run over says how it ended
            with suppress(OptimasError):  # where the store cannot be written, what went wrong before is still the news
                write_outcome(context.run, TASK, error)
        raise
    write_outcome(context.run, TASK, None)
    say(f"{context.run.run_id}: {last.phase}: {last.stop_reason}")
    return 0


def _told(state: RunState) -> None:
    result = state.record.get("result")
    detail = f": {result['verdict']}: {result['reason']}" if result else ""
    say(f"state {state.index}, {state.phase}, iteration {state.iteration}{detail}")


def read_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Raises: SystemExit: an unknown argument."""
    parser = argparse.ArgumentParser(prog="optimas_core.launchers.controller_task", description=__doc__)
    for name in ("--workspace", "--run-id", "--bundle"):
        parser.add_argument(name, required=True)
    parser.add_argument("--shards", type=lambda text: int(float(text)), default=4)  # KFP writes a whole number as 4 or 4.0
    parser.add_argument("--experiment", default="optimas")
    parser.add_argument("--service-account", default="")
    parser.add_argument("--namespace", default="", help="of the runs; needed where Kubeflow has several users")
    parser.add_argument("--cluster", type=_settings, default={}, help="JSON: parameters of the child pipelines")
    return parser.parse_args(arguments)


def _settings(text: str) -> dict[str, object]:
    found = parse_json(text.encode() or b"{}")
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError("not a JSON object")
    return found


def main() -> None:
    """Entry point; our errors become one sentence and their exit code."""
    from optimas_core._keyless import keyless_output

    with keyless_output():
        try:
            raise SystemExit(run(read_arguments(sys.argv[1:])))
        except OptimasError as error:
            say(f"optimas: {error}")
            raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
