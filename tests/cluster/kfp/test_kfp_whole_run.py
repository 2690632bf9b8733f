"""A whole run on a real Kubeflow Pipelines: one KFP run however often it is submitted, the bytes of one process, nothing paid twice."""

from __future__ import annotations

import json
import subprocess
import time
from typing import Any

import pytest

from optimas_core.artifacts import Workspace


@pytest.mark.timeout(1800)
def test_two_submits_at_once_give_one_run_with_the_bytes_of_one_process(kubeflow: Any, whole: Any, begun: Any) -> None:
    workspace, asked_before = begun("twice")
    command = kubeflow.command(whole.project, workspace)
    begun_s = time.monotonic()
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ends = [(*child.communicate(timeout=300), child.returncode) for child in both]
    assert [code for _, _, code in ends] == [0, 0], ends
    told = [json.loads(out) for out, _, _ in ends]
    assert len({item["kfp_run_id"] for item in told}) == 1
    assert sorted(item["attached"] for item in told) == [False, True]
    (run,) = kubeflow.runs("colours")
    assert run.name == "colours"

    ended = kubeflow.wait_ended(run.run_id)
    assert ended.state == "succeeded", f"{ended.errors}\n{kubeflow.logs(run.run_id)}"
    print(f"a run of one iteration: {time.monotonic() - begun_s:.0f} s")
    assert [item.name for item in kubeflow.runs("colours")] == ["colours", "colours-it-0001", "colours-sealed-test"]
    assert all(item.state == "succeeded" for item in kubeflow.runs("colours"))

    found, states = kubeflow.outcome(workspace)
    assert states == whole.states, "the same verdicts"
    assert found == whole.committed
    assert kubeflow.endpoint.asked("whole") - asked_before == whole.asked, "asked what one process asks, each once"
    page = Workspace.open(workspace).run("colours").read_file("report/report.html")
    assert page is not None and b"colours" in page

    later = kubeflow.submit(whole.project, workspace)
    assert later["attached"] and later["kfp_run_id"] == run.run_id and later["state"] == "succeeded"
    assert len(kubeflow.runs("colours")) == 3
