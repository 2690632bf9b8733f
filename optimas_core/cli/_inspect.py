"""Commands that read a workspace and pay for nothing: status, watch, report, diff, gc."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optimas_core.artifacts import RunWorkspace, StoredState, Workspace, collect
from optimas_core.controller import RunState
from optimas_core.errors import ArtifactCorrupt, DataError, SpecError
from optimas_core.reporting import changes_as_text, damage_told, diff_configurations, report_of, visible, write_report_of
from optimas_core.rollouts import Budget
from optimas_core.spec import BudgetSettings
from optimas_core.system import Configuration


def show_status(workspace: str, run_id: str | None, json_output: bool) -> None:
    """One line for each run of the workspace."""
    opened = _existing(workspace)
    rows = [_status(opened.run(name)) for name in ([run_id] if run_id else opened.run_ids())]
    if json_output:
        print(json.dumps(rows))
        return
    for row in rows:
        spent = f"{row['system_runs']:.0f} system runs, {row['tokens']:,} tokens, USD {row['usd']:.4f}"
        print(f"{row['run_id']}: {row['phase']}, iteration {row['iteration']} of {row['iterations']}, {row['accepted']} accepted; {spent}")
    if not rows:
        print(f"no runs in {opened.url}")


def follow(workspace: str, run_id: str, interval_s: float) -> None:
    """Print each new step until the run is finished."""
    run = _existing_run(workspace, run_id)
    index = 0
    while True:
        for stored in _states_from(run, index):
            index = stored.index + 1
            state = RunState.from_json(stored.data)
            result, plan = state.record.get("result"), state.record.get("plan")
            with damage_told(run):
                detail = (
                    f"{plan['component']}.{plan['knob']}: {result['verdict']}: {result['reason']}" if result and plan else state.stop_reason
                )
            print(visible(f"{state.index:4d}  {state.phase:9s}  {detail}".rstrip()), flush=True)
            if state.phase == "finished":
                return
        time.sleep(interval_s)


def _states_from(run: RunWorkspace, index: int) -> Iterator[StoredState]:
    """The states that have come since: one read for each, not one for each of the whole run at every look."""
    if index == 0:
        yield from run.states()  # several reads at once
        return
    while (stored := run.read_state(index)) is not None:
        yield stored
        index += 1


def make_report(workspace: str, run_id: str, output: Path | None, json_output: bool) -> None:
    """Write the report into the workspace (and `output`); print the verdict and where it lies."""
    run = _existing_run(workspace, run_id)
    report, files, where = write_report_of(run)
    if output is not None:
        try:
            output.mkdir(parents=True, exist_ok=True)
            for name, data in files.items():
                (output / name).write_bytes(data)
        except OSError as error:
            raise DataError(f"{output} cannot be written: {error.strerror}.", remedy="Give a directory you may write to.") from None
        where = str(output / "report.html")
    if json_output:
        print(json.dumps(report, sort_keys=True))
        return
    print(report["verdict"]["line"])
    print(f"Report: {where}")


def show_diff(workspace: str, run_id: str, before: str | None, after: str | None, json_output: bool) -> None:
    """Print what differs between two configurations of a run."""
    run = _existing_run(workspace, run_id)
    report = report_of(run)
    left = _configuration(run, before) if before else report["configuration"]["before"]
    right = _configuration(run, after) if after else report["configuration"]["after"]
    if json_output:
        print(json.dumps({"before": left, "after": right}, sort_keys=True))
        return
    print(changes_as_text(diff_configurations(left, right)) or "no difference")


def collect_garbage(workspace: str, run_id: str | None, dry_run: bool, min_age_hours: float, json_output: bool) -> None:
    """Remove what no manifest names and say what it was."""
    removed = collect(_existing(workspace), run_id, dry_run=dry_run, min_age_s=min_age_hours * 3600)
    if json_output:
        print(json.dumps({"removed": removed, "dry_run": dry_run}))
        return
    for key in removed:
        print(f"{'would remove' if dry_run else 'removed'} {key}")
    print(f"{len(removed)} files")


def _status(run: RunWorkspace) -> dict[str, Any]:
    spec, stored = run.read_spec(), run.latest_state()
    if spec is None:
        raise SpecError(f"there is no run {run.run_id!r} in the workspace.", remedy="`optimas status WORKSPACE` lists them.")
    state = RunState.from_json(stored.data) if stored else RunState()
    try:
        iterations = spec["settings"]["schedule"]["iterations"]
        if type(iterations) is not int:
            raise TypeError("not a number")
    except (KeyError, TypeError):
        raise ArtifactCorrupt(f"{run.uri}/spec.json is not the spec of a run.", remedy="Restore it from a copy.") from None
    spent = Budget(BudgetSettings(), run).spent()
    return {
        "run_id": run.run_id,
        "phase": state.phase,
        "iteration": state.iteration,
        "iterations": iterations,
        "accepted": state.accepted,
        "stop_reason": state.stop_reason,
        "system_runs": spent.system_runs,
        "tokens": spent.tokens,
        "usd": spent.usd,
        "usd_unknown_calls": spent.usd_unknown_calls,
    }


def _existing(workspace: str) -> Workspace:
    if "://" not in workspace and not os.path.isdir(workspace):  # unlike Path.is_dir it also knows a name that is too long
        raise SpecError(f"{workspace} is no directory.", remedy="Give the workspace of run.yaml: a directory or s3://bucket/prefix.")
    return Workspace.open(workspace)


def _existing_run(workspace: str, run_id: str) -> RunWorkspace:
    run = _existing(workspace).run(run_id)
    if run.read_spec() is None:
        raise SpecError(f"there is no run {run_id!r} in {workspace}.", remedy="`optimas status WORKSPACE` lists them.")
    return run


def _configuration(run: RunWorkspace, name: str) -> dict[str, Any]:
    try:
        found = run.read_configuration(name)
    except ValueError:  # no digest at all
        found = None
    if found is None:
        raise SpecError(f"there is no configuration {name!r} in run {run.run_id!r}.", remedy="report.json lists their digests.")
    return Configuration.from_json(found).to_json()
