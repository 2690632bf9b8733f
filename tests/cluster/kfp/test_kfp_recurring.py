"""A schedule on a real Kubeflow Pipelines: it fires twice; the first run optimizes, the second looks and stops since nothing moved."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from optimas_core.artifacts import Workspace
from optimas_core.controller import RunState

EACH_MINUTE = "0 * * * * *"


@pytest.mark.timeout(2400)
def test_a_schedule_fires_twice_and_its_second_run_stops_at_the_drift_check(kubeflow: Any, tmp_path: Path) -> None:
    run_yaml = kubeflow.project(tmp_path / "project", "recurring", 20)
    spec = yaml.safe_load(run_yaml.read_text()) | {"drift": {"alpha": 0.01, "preference_examples": 8}}
    run_yaml.write_text(yaml.safe_dump(spec))
    address = kubeflow.workspace("recurring")

    def schedule(*options: str) -> Any:
        place = ["--host", kubeflow.host, "--experiment", kubeflow.experiment, "--workspace", address, "--json"]
        command = [sys.executable, "-m", "optimas_core.cli", "schedule", str(run_yaml), *place, *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    settings = [part for name, value in kubeflow.settings.items() for part in ("--set", f"{name}={value}")]
    assert schedule("--cron", EACH_MINUTE, *settings)["action"] == "created"
    assert schedule("--cron", EACH_MINUTE, *settings)["action"] == "unchanged"
    (listed,) = schedule("--list")
    experiment_id = kubeflow.api.find_experiment(kubeflow.experiment)

    def fired() -> list[Any]:
        return sorted(kubeflow.api.runs_of_recurring(listed["recurring_id"], experiment_id), key=lambda run: run.created_at)

    try:
        first = kubeflow.cluster.wait("the first run", lambda: fired()[:1], 180.0)[0]
        assert kubeflow.wait_ended(first.run_id, 1200.0).state == "succeeded", kubeflow.logs(first.run_id)
        second = kubeflow.cluster.wait("the second run", lambda: fired()[1:2], 180.0)[0]
        schedule("--pause")
        assert kubeflow.wait_ended(second.run_id, 600.0).state == "succeeded", kubeflow.logs(second.run_id)
        assert len(fired()) == 2, "one at a time, and none made up for"
    finally:
        schedule("--delete", "--wait-s", "60")
    assert schedule("--list") == []

    workspace = Workspace.open(address)
    names = {fired_run.run_id: _named_after(workspace, fired_run.run_id) for fired_run in (first, second)}
    optimized, looked = (
        [RunState.from_json(stored.data) for stored in workspace.run(names[item.run_id]).states()] for item in (first, second)
    )
    assert "test" in optimized[-1].record and optimized[-1].iteration == 1
    assert [state.phase for state in looked] == ["created", "finished"] and "drift" in looked[-1].record
    print(f"the second run: {looked[-1].stop_reason}")
    assert kubeflow.runs(names[second.run_id]) == [], "it started nothing"
    page = workspace.run(names[second.run_id]).read_file("report/report.html")
    assert page is not None and b"othing moved" in page


def _named_after(workspace: Workspace, kfp_run_id: str) -> str:
    """The run of that time: the schedule's, and the first letters of the KFP run's id."""
    (found,) = [run_id for run_id in workspace.run_ids() if run_id.endswith(f"-{kfp_run_id[:8]}")]
    return found
