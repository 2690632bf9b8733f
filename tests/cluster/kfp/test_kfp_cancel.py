"""`optimas cancel` while an iteration measures: no pod is left, no run goes on, and what was committed is gone on from."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

NOT_GONE = ("Pending", "Running")


def alive(kubeflow: Any) -> list[str]:
    return [
        f"{run.name}: {pod['metadata']['name']}"
        for run in kubeflow.runs()
        for pod in kubeflow.pods(run.run_id)
        if pod["status"]["phase"] in NOT_GONE
    ]


@pytest.mark.timeout(1800)
def test_cancel_leaves_no_pod_and_a_later_submit_goes_on(kubeflow: Any, whole: Any, begun: Any) -> None:
    workspace, asked_before = begun("canceled")
    first = kubeflow.submit(whole.project, workspace)
    kubeflow.wait_for("the iteration's stage", lambda: kubeflow.running_pod("colours-it-0001", "generate-preferences"), first["kfp_run_id"])

    begun_s = time.monotonic()
    done = kubeflow.cancel(workspace, "colours")
    took_s = time.monotonic() - begun_s
    assert done.returncode == 0, done.stderr
    assert {"colours", "colours-it-0001"} <= set(json.loads(done.stdout)["names"]), done.stdout
    print(f"canceled in {took_s:.0f} s")
    assert {run.name: run.state for run in kubeflow.runs()} == {"colours": "canceled", "colours-it-0001": "canceled"}
    kubeflow.wait_for("the end of every pod", lambda: not alive(kubeflow), first["kfp_run_id"], 60.0)
    time.sleep(15)  # a controller that still went would start something more
    assert not alive(kubeflow) and len(kubeflow.runs()) == 2

    once_more = kubeflow.cancel(workspace, "colours")
    assert once_more.returncode == 0 and json.loads(once_more.stdout)["names"] == []

    again = kubeflow.submit(whole.project, workspace, "--again")
    assert not again["attached"] and again["kfp_run_id"] != first["kfp_run_id"]
    ended = kubeflow.wait_ended(again["kfp_run_id"])
    assert ended.state == "succeeded", f"{ended.errors}\n{kubeflow.logs(ended.run_id)}"
    found, states = kubeflow.outcome(workspace)
    assert (states, found) == (whole.states, whole.committed)
    asked = kubeflow.endpoint.asked("whole") - asked_before
    assert not whole.asked - asked
    assert (asked - whole.asked).total() <= 2 * 4, "at most what two shards had in flight"
