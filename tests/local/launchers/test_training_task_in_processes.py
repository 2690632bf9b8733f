"""A training task that starts processes of its own: one artifact, nothing paid twice, and one sentence where a process dies."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from optimas_core.artifacts import RunWorkspace, Workspace, pack_bundle, put_bundle
from optimas_core.errors import TemporaryError
from optimas_core.launchers import tasks
from optimas_core.launchers._tasks import read_outcome
from optimas_core.rollouts import Budget, Spend
from optimas_core.spec import BudgetSettings
from optimas_core.stages import load_project, open_run

TASK = "0-train-lrf"
# Python runs it at the start of every process: the follower kills itself once it takes part, as often as DEATHS says.
KILLED = """
import os, signal, sys, threading, time
from pathlib import Path

def die():
    while "optimas_core.rewards._lessons" not in sys.modules:
        time.sleep(0.05)
    left = Path(os.environ["DEATHS"])
    if left.is_file() and (number := int(left.read_text())):
        left.write_text(str(number - 1))
        os.kill(os.getpid(), signal.SIGKILL)

if os.environ.get("RANK") == "1":
    threading.Thread(target=die, daemon=True).start()
"""


@dataclass(frozen=True)
class Begun:
    """A run whose first preference data is measured and not yet committed."""

    workspace: Path
    bundle: str
    folder: Path

    @property
    def run(self) -> RunWorkspace:
        return Workspace.open(self.workspace).run("colours")

    def artifacts(self) -> list[str]:
        return sorted(path.parent.name for path in (self.workspace / "runs/colours/lrf").glob("*/manifest.json"))

    def spent(self) -> Spend:
        return Budget(BudgetSettings(), self.run).spent()

    def train(self, processes: int, *, deaths: int = 0, attempts: int = 1) -> subprocess.CompletedProcess[str]:
        """The task as the program that a pod starts."""
        site = self.folder / "site"
        site.mkdir(exist_ok=True)
        (site / "sitecustomize.py").write_text(KILLED)
        (site / "deaths").write_text(str(deaths))
        environment = {
            **os.environ,
            "OPTIMAS_TRAIN_PROCESSES": str(processes),
            "OPTIMAS_TASK_ATTEMPTS": str(attempts),
            "OPTIMAS_TASK_BACKOFF_S": "0.1",
            "OPTIMAS_CODE_FOLDER": str(self.folder / "code"),
            "PYTHONPATH": str(site),
            "DEATHS": str(site / "deaths"),
        }
        command = [sys.executable, "-m", "optimas_core.launchers.stage_task", "train-first", "--workspace", str(self.workspace)]
        command += ["--run-id", "colours", "--bundle", self.bundle]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, check=False)


@pytest.fixture
def begun(scripted_project: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Begun:
    lrf = {"rung": "lora", "epochs": 1, "lora_rank": 4, "max_tokens": 32, "precision": "fp32"}
    project = load_project(scripted_project(name="colours", lrf=lrf, workspace=str(tmp_path / "workspace")))
    workspace = Workspace.open(tmp_path / "workspace")
    open_run(project, workspace=workspace)
    monkeypatch.setenv("OPTIMAS_CODE_FOLDER", str(tmp_path / "code"))
    bundle = put_bundle(workspace, pack_bundle(project.directory))
    tasks.measure_preferences(str(tmp_path / "workspace"), "colours", bundle, 0, 0, 1)
    return Begun(tmp_path / "workspace", bundle, tmp_path)


@pytest.mark.timeout(900)
def test_one_of_the_processes_commits_and_the_task_says_its_result_once(begun: Begun) -> None:
    before = begun.spent()
    done = begun.train(2)
    assert done.returncode == 0, done.stderr[-3000:]
    (name,) = begun.artifacts()
    assert done.stdout == f"result: {name}\n", "only the task itself speaks on stdout"
    assert "alignment_" in done.stderr
    assert read_outcome(begun.run, TASK) is None
    assert begun.spent() == before and before.system_runs > 0, "the second process neither called anything nor counted anything"
    again = begun.train(2)
    assert again.returncode == 0 and again.stdout == done.stdout and begun.artifacts() == [name]


@pytest.mark.timeout(900)
def test_a_process_that_dies_ends_the_task_with_one_sentence_and_another_try_goes_through(begun: Begun) -> None:
    died = begun.train(2, deaths=1)
    assert died.returncode == 1 and died.stdout == "" and begun.artifacts() == []
    said = [line for line in died.stderr.splitlines() if line.startswith("optimas: ")]
    assert said[-1].startswith("optimas: training process 1 of 2 was killed by signal 9, and the training with it. The task's log"), said
    outcome = read_outcome(begun.run, TASK)
    assert isinstance(outcome, TemporaryError) and str(outcome) == said[-1].removeprefix("optimas: ")
    through = begun.train(2, deaths=1, attempts=2)
    assert through.returncode == 0, through.stderr[-3000:]
    assert len(begun.artifacts()) == 1 and read_outcome(begun.run, TASK) is None
