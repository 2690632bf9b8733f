"""Settings that Kubeflow fixes in the YAML, on a real server: they stand in the Workflow and in the pods, and do what they say."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

SETTINGS = {"image_pull_policy": "IfNotPresent", "ttl_s": "60", "deadline_s": "60", "task_deadline_s": "1500", "task_attempts": "2"}


@pytest.mark.timeout(600)
def test_a_run_ends_at_its_deadline_and_its_workflow_goes_after_its_time(kubeflow: Any, tmp_path: Any) -> None:
    run_yaml = kubeflow.project(tmp_path / "project", "pod-settings")
    run_id = kubeflow.submit(run_yaml, kubeflow.workspace("pod-settings"), settings=SETTINGS)["kfp_run_id"]

    def workflows() -> list[dict[str, Any]]:
        listed = kubeflow.cluster.kubectl(
            "get", "workflows.argoproj.io", "-n", kubeflow.namespace, "-l", f"pipeline/runid={run_id}", "-o", "json"
        )
        found: list[dict[str, Any]] = json.loads(listed)["items"]
        return found

    def stage() -> dict[str, Any] | None:
        """Where the stage itself runs. Its driver's pod is another one."""
        by_node = {pod["metadata"]["annotations"].get("workflows.argoproj.io/node-name", ""): pod for pod in kubeflow.pods(run_id)}
        return next((pod for node, pod in by_node.items() if re.search(r"\.prerequisites-check(\(\d+\))?\.executor", node)), None)

    pod = kubeflow.wait_for("the first stage's pod", stage, run_id)
    (workflow,) = workflows()
    assert workflow["spec"]["activeDeadlineSeconds"] == 60
    assert workflow["spec"]["ttlStrategy"] == {"secondsAfterCompletion": 60}
    assert pod["spec"]["activeDeadlineSeconds"] == 1500
    (main,) = [container for container in pod["spec"]["containers"] if container["name"] == "main"]
    assert main["imagePullPolicy"] == "IfNotPresent"
    assert {"name": "OPTIMAS_TASK_ATTEMPTS", "value": "2"} in main["env"]

    assert kubeflow.wait_ended(run_id, 200.0).state == "failed"
    kubeflow.cluster.wait("the end of the Workflow", lambda: not workflows(), 200.0)
    assert kubeflow.api.get_run(run_id).state == "failed", "what Kubeflow keeps of the run stays"
