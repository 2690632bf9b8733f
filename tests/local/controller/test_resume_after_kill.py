"""Killed with SIGKILL at any write and started again, a run commits the bytes an uninterrupted run commits.

The run that is killed begins from the other one's spec.json, so both have the same time of creation.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optimas_core.artifacts import Workspace
from optimas_core.errors import EnvironmentNotReady
from optimas_core.models.embedded import embedded_path

KILLER = Path(__file__).parents[2] / "fixtures" / "scripted" / "kill_after.py"
RUN = "resumed"
# Fewer iterations than the paper's: what matters is that every kind of write is among them.
SECTIONS: dict[str, Any] = {"name": RUN, "schedule": {"iterations": 2, "selection": {"kind": "round_robin"}}}


@pytest.fixture(autouse=True)
def prepared() -> None:
    try:
        embedded_path("all-minilm-l6-v2")
    except EnvironmentNotReady as error:
        pytest.skip(str(error))


def optimas(path: Path, workspace: str, log: Path, *, kill_after: int = 0, before: bool = False, again: bool = False) -> int:
    """Run it in a process of its own; returns the exit status, negative for a signal."""
    environment = os.environ | {
        "KILL_AFTER_WRITES": str(kill_after),
        "KILL_BEFORE": str(int(before)),
        "WRITES_LOG": str(log.with_suffix(".writes")),
        "SCRIPTED_CALL_LOG": str(log.with_suffix(".calls")),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, str(KILLER), "resume" if again else "run", str(path), "--workspace", workspace]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr[-3000:]
    return done.returncode


def committed(workspace: str) -> dict[str, bytes]:
    """Every artifact and configuration of the run, by key."""
    store = Workspace.open(workspace).store
    kinds = ("preferences", "lrf", "proposals", "validations", "configurations", "spec.json")
    keys = [key for key in store.list(f"runs/{RUN}/") if key.split("/")[2] in kinds]
    blobs = {key: store.get(key) for key in keys}
    return {key: blob.data for key, blob in blobs.items() if blob is not None}


def states(workspace: str) -> list[dict[str, Any]]:
    return [state.data for state in Workspace.open(workspace).run(RUN).states()]


def lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def kill_and_compare(project: Path, straight: str, killed: str, logs: Path, points: Callable[[int], list[tuple[int, bool]]]) -> None:
    assert optimas(project, straight, logs / "straight") == 0
    total = int((logs / "straight.writes").read_text().split()[-1])
    spec = Workspace.open(straight).store.get(f"runs/{RUN}/spec.json")
    assert spec is not None
    Workspace.open(killed).store.put(f"runs/{RUN}/spec.json", spec.data)
    kills = 0
    for writes, before in points(total):
        code = optimas(project, killed, logs / "killed", kill_after=writes, before=before, again=True)
        kills += code == -signal.SIGKILL
        if code == 0:
            break
    if code != 0:
        assert optimas(project, killed, logs / "killed", again=True) == 0
    assert kills >= 2
    assert states(killed) == states(straight)
    assert committed(killed) == committed(straight)
    calls, paid = lines(logs / "straight.calls"), lines(logs / "killed.calls")
    # In flight at a kill: at most `concurrency` (8) executions, and the proposer's two questions, whose replies are not kept.
    assert calls <= paid <= calls + kills * (8 + 2)


def test_a_directory(scripted_project: Callable[..., Path], tmp_path: Path) -> None:
    def points(total: int) -> list[tuple[int, bool]]:
        rng = random.Random(5)
        # Each process begins where the last one ended: shares of what is left, and one kill at its very first write.
        return [(1, True), *((rng.randrange(total // 8, total // 2), rng.random() < 0.5) for _ in range(4))]

    project = scripted_project(**SECTIONS)
    kill_and_compare(project, str(tmp_path / "straight"), str(tmp_path / "killed"), tmp_path, points)


def test_an_s3_bucket(scripted_project: Callable[..., Path], s3_url: str, tmp_path: Path) -> None:
    project = scripted_project(**SECTIONS)
    kill_and_compare(project, f"{s3_url}/straight", f"{s3_url}/killed", tmp_path, lambda total: [(total // 3, False), (total // 3, True)])
    directory = str(tmp_path / "straight")
    assert optimas(project, directory, tmp_path / "directory") == 0
    assert [state | {"record": None} for state in states(directory)] == [state | {"record": None} for state in states(f"{s3_url}/straight")]
