"""What keeps a pod from starting is named within a minute, to who waits and by the controller; a missing secret is told too."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from optimas_core.errors import PermanentError
from optimas_core.launchers import ClusterSettings, KubeflowPipelines

WITHIN_S = 60.0
GPU = "optimas.dev/no-such-gpu"


@pytest.fixture
def told(kubeflow: Any, tmp_path: Any) -> Callable[..., tuple[str, float]]:
    """`submit --wait` until it says that text; returns the line and the seconds since the pod that cannot start was made."""

    def run(wanted: str, step: str, settings: dict[str, str]) -> tuple[str, float]:
        run_yaml = kubeflow.project(tmp_path / "project", "none")
        command = kubeflow.command(run_yaml, kubeflow.workspace(kubeflow.experiment), "--wait", settings=settings)
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert child.stderr is not None
        said = []
        try:
            for line in child.stderr:
                said.append(line)
                if wanted in line:
                    return line, time.time() - kubeflow.born(step)
        finally:
            child.terminate()
            child.wait(30)
        pytest.fail(f"it never said {wanted!r}:\n" + "".join(said))

    return run


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("settings", "step", "wanted"),
    [
        ({"train_image": "registry.invalid/no-such-image:1"}, "prerequisites-check", "registry.invalid/no-such-image:1"),
        ({"node_selector": '{"no-such-label": "x"}'}, "prerequisites-check", "node selector"),
        ({"cpu": "1000"}, "prerequisites-check", "Insufficient cpu"),
    ],
    ids=["image", "selector", "cpu"],
)
def test_a_first_step_that_cannot_start_is_named_within_a_minute(told: Any, settings: dict[str, str], step: str, wanted: str) -> None:
    line, after_s = told(wanted, step, settings)
    print(f"{after_s:.0f} s: {line.strip()}")
    assert line.startswith(step)
    assert after_s <= WITHIN_S


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"train_image": "registry.invalid/no-such-image:1"}, "registry.invalid/no-such-image:1"),
        ({"node_selector": {"no-such-label": "x"}}, "node selector"),
    ],
    ids=["image", "selector"],
)
def test_the_controller_names_it_and_ends_a_child_run(kubeflow: Any, settings: dict[str, Any], wanted: str) -> None:
    """The launcher of the controller task, with the deadline for what a person must mend made short."""
    said: list[tuple[float, str]] = []
    begun_s = time.monotonic()
    given = ClusterSettings(kubeflow.experiment, "optimas", kubeflow.settings | settings, mend_deadline_s=5.0, poll_s=1.0)
    pipelines = KubeflowPipelines(kubeflow.api, given, say=lambda text: said.append((time.monotonic() - begun_s, text)))
    arguments = {"workspace": kubeflow.workspace("stuck"), "run_id": "stuck", "bundle": "0" * 64, "before": "a", "after": "b"}
    with pytest.raises(PermanentError, match="cannot start") as stopped:
        pipelines.execute("sealed_test", "stuck-sealed-test", arguments)
    assert wanted in stopped.value.message and "sealed-test" in stopped.value.message
    after_s = next(when for when, text in said if wanted in text)
    print(f"{after_s:.0f} s after the run was asked for: {stopped.value.message}")
    assert after_s <= WITHIN_S
    (run,) = kubeflow.runs()
    assert kubeflow.wait_ended(run.run_id, 120.0).state == "canceled", "it does not wait for ever in the cluster"


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("secret", "wanted"),
    [("llm_secret", "OPTIMAS_LLM_KEY"), ("s3_secret", "AWS_ACCESS_KEY_ID")],
)
def test_a_missing_secret_ends_the_run_with_what_is_missing(kubeflow: Any, tmp_path: Any, secret: str, wanted: str) -> None:
    run_yaml = kubeflow.project(tmp_path / "project", "none")
    options = {"settings": {secret: "no-such-secret"}}
    command = kubeflow.command(run_yaml, kubeflow.workspace(kubeflow.experiment), "--wait", **options)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    print(done.stderr.splitlines()[-1])
    assert done.returncode != 0 and "prerequisites-check: " in done.stderr and wanted in done.stderr


@pytest.mark.timeout(900)
def test_a_gpu_that_no_node_has_is_named_within_a_minute(told: Any) -> None:
    line, after_s = told(GPU, "train-lrf", {"gpu_type": GPU, "gpus": "1"})
    print(f"{after_s:.0f} s: {line.strip()}")
    assert line.startswith("train-lrf: no node has enough")
    assert after_s <= WITHIN_S
