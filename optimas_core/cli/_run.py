"""`optimas run` and `optimas resume`."""

from __future__ import annotations

import json
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from optimas_core.artifacts import Lease, Workspace, probe
from optimas_core.cli._progress import RunProgress
from optimas_core.controller import Controller, RunState
from optimas_core.errors import Interrupted, OptimasError, SpecError
from optimas_core.launchers import InProcessLauncher
from optimas_core.reporting import write_report
from optimas_core.stages import check_backbone, check_models, load_project, open_run

_LEASE_WAIT_S = 45.0


def optimize(
    run_yaml: Path,
    *,
    workspace: str | None,
    name: str | None,
    seed: int | None,
    must_exist: bool,
    check: bool,
    json_output: bool,
) -> None:
    """Check everything, hold the run's lease, drive it to its end, write the report and print the verdict.

    Raises:
        UserError: bad input, before the first paid call.
        BudgetExhausted, Interrupted, LeaseLost: what was committed stays; resume goes on.
    """
    logging.getLogger("transformers").setLevel(logging.ERROR)  # its progress bars would tear ours
    project = load_project(run_yaml, name=name, seed=seed, workspace=workspace)
    opened = Workspace.open(project.workspace_url)
    probe(opened.store)
    if must_exist and opened.run(project.run_id).read_spec() is None:
        raise SpecError(f"there is no run {project.run_id!r} in {opened.url}.", remedy="Start it with `optimas run`.")
    if check:
        check_backbone(project.settings)
        check_models(project.system, also=project.proposing)
    with RunProgress(project.settings.schedule.iterations) as progress, _signals() as stopping:
        lease = Lease(open_run(project, workspace=opened).run)
        lease.acquire(wait_s=_LEASE_WAIT_S)
        # Only now read the ledger: the former holder may have spent while we waited.
        context = open_run(project, progress=progress, workspace=opened)
        context.before_commit = lease.check
        context.after_commit = stopping.check
        progress.attach(context.budget)
        launcher = InProcessLauncher(context)

        def on_state(state: RunState) -> None:
            progress.on_state(state)
            if state.phase != "finished":
                stopping.check()

        failure: OptimasError | None = None
        try:
            with lease.keep():
                Controller(context, launcher, lease, on_state=on_state).run()
        except (Interrupted, KeyboardInterrupt) as error:
            failure = (
                error if isinstance(error, Interrupted) else Interrupted("interrupted by the keyboard.", remedy="Run `optimas resume`.")
            )
        except OptimasError as error:
            failure = error
        finally:
            context.budget.flush()
            launcher.close()
            lease.release()
    report, where = write_report(context.run)
    if json_output:
        print(json.dumps({"run_id": context.run.run_id, "verdict": report["verdict"], "report": where}, sort_keys=True))
    else:
        print(report["verdict"]["line"])
        print(f"Report: {where}")
    sys.stdout.flush()
    if failure is not None:
        raise failure


class _Stopping:
    """Remembers a SIGTERM until the next commit is done."""

    def __init__(self) -> None:
        self.asked = False

    def check(self) -> None:
        if self.asked:
            raise Interrupted("stopped by SIGTERM after the commit in progress.", remedy="`optimas resume` goes on from here.")


@contextmanager
def _signals() -> Iterator[_Stopping]:
    """SIGTERM: finish the commit in progress, then stop. A second one stops at once."""
    stopping = _Stopping()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stopping.asked:
            raise KeyboardInterrupt
        stopping.asked = True

    before = signal.signal(signal.SIGTERM, on_signal)
    try:
        yield stopping
    finally:
        signal.signal(signal.SIGTERM, before)
