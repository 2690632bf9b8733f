"""benchmarks/_kfp/observed.py: what is a stage, what Kubeflow took, from objects as a cluster gives them."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


@pytest.fixture
def observed(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("_kfp.observed")


def pod(node: str, begin: int | None, end: int = 0) -> dict[str, Any]:
    name = {"workflows.argoproj.io/node-name": node}
    state: dict[str, Any] = {"waiting": {}}
    if begin is not None:
        state = {"terminated": {"startedAt": f"2026-11-21T20:00:{begin:02d}Z", "finishedAt": f"2026-11-21T20:00:{end:02d}Z"}}
    wait = {"name": "wait", "state": {"terminated": {"startedAt": "2026-11-21T20:00:00Z", "finishedAt": "2026-11-21T20:00:59Z"}}}
    return {"metadata": {"annotations": name}, "status": {"containerStatuses": [wait, {"name": "main", "state": state}]}}


TOP = "optimas-iteration-2f52c(0).root(0)"
LOOP = f"{TOP}.for-loop-1(0).iteration-iterations"
PODS = [
    pod(f"{TOP}.root-driver(0)", 0, 2),
    pod(f"{TOP}.propose-driver(0)", 2, 4),
    pod(f"{TOP}.propose(0).executor(0)", 6, 10),
    pod(f"{LOOP}(0:0)(0).iteration-item(0).generate-preferences(0).executor(0)", 20, 30),
    pod(f"{LOOP}(1:1)(0).iteration-item(0).generate-preferences(0).executor(0)", 22, 34),
    pod(f"{TOP}.adapt-lrf(0).executor(0)", None),
]


def test_a_task_is_told_from_its_driver(observed: Any) -> None:
    assert [observed.task_of(item) for item in PODS] == ["", "", "propose", "generate-preferences", "generate-preferences", "adapt-lrf"]


def test_what_stages_took_together_is_no_cost_of_kubeflow(observed: Any) -> None:
    workflow = {"status": {"startedAt": "2026-11-21T20:00:00Z", "finishedAt": "2026-11-21T20:00:50Z"}}
    found = observed.observed(workflow, PODS)
    assert (found.wall_s, found.stages_s, found.above_s) == (50.0, 18.0, 32.0)
    assert (found.pods, found.stage_pods) == (6, 4)
    assert 0.05 < found.object_kb < 0.15


def test_shards_are_measured_from_the_first_start_to_the_last_end(observed: Any) -> None:
    assert observed.stretch_s(PODS, "generate-preferences") == 14.0
