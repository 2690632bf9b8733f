"""How many processes a training task starts, and what it makes of torchrun's last report."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimas_core.artifacts import RunWorkspace, Workspace
from optimas_core.errors import EnvironmentNotReady
from optimas_core.launchers._training import _options, _wanted_processes, _who_failed

REPORT = """
optimas: something before  rank : 7
============================================================
optimas_core.launchers.stage_task FAILED
------------------------------------------------------------
Failures:
[1]:
  time      : 2026-01-01_00:00:00
  rank      : 0 (local_rank: 0)
  exitcode  : 1 (pid: 11)
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2026-01-01_00:00:00
  host      : node
  rank      : 1 (local_rank: 1)
  exitcode  : -9 (pid: 12)
  error_file: <N/A>
  traceback : Signal 9 (SIGKILL) received by PID 12
============================================================
"""


def run_of(tmp_path: Path, rung: str) -> RunWorkspace:
    run = Workspace.open(tmp_path).run("colours")
    run.freeze_spec({"settings": {"lrf": {"rung": rung}}})
    return run


def test_the_variable_decides_and_otherwise_the_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(tmp_path, "lora")
    monkeypatch.setenv("OPTIMAS_TRAIN_PROCESSES", "3")
    assert _wanted_processes(run) == 3
    monkeypatch.delenv("OPTIMAS_TRAIN_PROCESSES")
    for devices, processes in ((0, 1), (1, 1), (4, 4)):
        monkeypatch.setattr("torch.cuda.device_count", lambda devices=devices: devices)
        assert _wanted_processes(run) == processes


def test_the_frozen_rung_needs_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTIMAS_TRAIN_PROCESSES", "3")
    assert _wanted_processes(run_of(tmp_path, "frozen")) == 1


@pytest.mark.parametrize("text", ["two", "0", "-1", "65", "2.0", "²"])
def test_a_number_that_is_none(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTIMAS_TRAIN_PROCESSES", text)
    with pytest.raises(EnvironmentNotReady, match="OPTIMAS_TRAIN_PROCESSES=.* is no number from 1 to 64. Leave it out"):
        _wanted_processes(run_of(tmp_path, "lora"))


@pytest.mark.parametrize(
    ("program", "given"),
    [
        ("train-first", {"workspace": "s3://b/p", "run_id": "r", "bundle": "a" * 64}),
        ("adapt-rewards", {"workspace": "s3://b/p", "run_id": "r", "bundle": "a" * 64, "state": 2, "proposals": "b" * 64}),
    ],
)
def test_what_is_started_is_the_same_task(program: str, given: dict[str, str | int]) -> None:
    from optimas_core.launchers.stage_task import TASKS, read_arguments

    assert read_arguments([program, *_options(given)]) == (TASKS[program], given)


def test_the_process_that_failed_first_is_named() -> None:
    assert _who_failed(REPORT, 2) == "training process 1 of 2 was killed by signal 9"
    assert _who_failed(REPORT.replace("-9", "2"), 2) == "training process 1 of 2 ended with exit code 2"
    swapped = REPORT.replace("exitcode  : 1", "exitcode  : -11").replace("-9", "1")
    assert _who_failed(swapped, 2) == "training process 0 of 2 was killed by signal 11", "the other ended because of it"
    assert _who_failed("Killed", 2) == "one of 2 training processes failed"
