"""The compiled pipelines on this machine give the bytes that one process gives, also where a task died on its way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optimas_core.artifacts import Workspace
from optimas_core.controller import RunState

Command = Callable[..., Any]
Write = Callable[..., Path]
# Everything that a stage commits; the rest tells of processes and of time.
COMMITTED = ("preferences", "lrf", "proposals", "validations", "configurations")


@pytest.fixture
def project(scripted_project: Write) -> Path:
    return scripted_project(name="colours", schedule={"iterations": 1, "selection": {"kind": "round_robin"}})


def committed(workspace: Workspace) -> dict[str, bytes]:
    run = workspace.run("colours")
    found = [item.key for kind in COMMITTED for item in run.store.scan(f"{run.prefix}/{kind}/")]
    blobs = {key: run.store.get(key) for key in found}
    return {key.removeprefix(run.prefix): blob.data for key, blob in blobs.items() if blob is not None}


def states(workspace: Workspace) -> list[RunState]:
    return [RunState.from_json(stored.data) for stored in workspace.run("colours").states()]


@pytest.mark.timeout(900)  # some twenty processes, each of which loads torch
def test_tasks_commit_over_s3_what_one_process_commits_in_a_directory(
    project: Path, optimas: Command, tmp_path: Path, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = optimas("run", project, "--skip-checks", "--json", "--workspace", tmp_path / "whole")
    assert done.code == 0, done.err
    whole, tasks = Workspace.open(tmp_path / "whole"), Workspace.open(s3_url)
    tasks.run("colours").freeze_spec(whole.run("colours").read_spec() or {})  # the same names and times
    options = ("--json", "--workspace", s3_url, "--launcher", "kfp-local", "--shards", 2)

    monkeypatch.setenv("OPTIMAS_CRASH_AT", "lrf-manifest.before:1")  # the task that trains dies just before its commit
    died = optimas("run", project, "--skip-checks", *options)
    assert died.code == 1 and "warm-up" in died.err, died.err
    assert [state.phase for state in states(tasks)] == ["created"]

    monkeypatch.delenv("OPTIMAS_CRASH_AT")
    again = optimas("resume", project, *options)
    assert again.code == 0, again.err
    assert json.loads(again.out)["verdict"] == json.loads(done.out)["verdict"], "stdout holds the result alone"
    assert committed(tasks) == committed(whole)
    assert states(tasks) == states(whole), "the same order of random choices, the same verdicts"
