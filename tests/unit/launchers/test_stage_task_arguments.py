"""The tasks as a program: its options are the parameters of the functions."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from optimas_core.launchers import stage_task, tasks


def test_every_task_of_the_pipelines_can_be_started_as_a_program() -> None:
    public = {
        name.replace("_", "-")
        for name, item in vars(tasks).items()
        if inspect.isfunction(item) and item.__module__ == tasks.__name__ and not name.startswith("_")
    }
    assert set(stage_task.TASKS) == public


def test_options_are_the_parameters_and_numbers_are_numbers() -> None:
    given = [
        "measure-preferences",
        "--workspace",
        "s3://b/p",
        "--run-id",
        "r",
        "--bundle",
        "d",
        "--state",
        "2",
        "--shard",
        "0",
        "--shards",
        "4",
    ]
    function, found = stage_task.read_arguments(given)
    assert function is tasks.measure_preferences
    assert found == {"workspace": "s3://b/p", "run_id": "r", "bundle": "d", "state": 2, "shard": 0, "shards": 4}


@pytest.mark.parametrize("given", [[], ["no-such-task"], ["train-first", "--workspace", "w"], ["train-first", "--figures", "x"]])
def test_what_no_task_takes_is_refused_with_the_usage(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        stage_task.read_arguments(given)
    assert stop.value.code == 2 and "usage" in capsys.readouterr().err


def test_the_figures_go_to_the_log_and_the_name_is_returned(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def train(workspace: str, run_id: str, figures: dict[str, Any]) -> str:
        figures["alignment"] = 0.9
        return f"{workspace}/{run_id}"

    monkeypatch.setitem(stage_task.TASKS, "train-first", train)
    assert stage_task.run(["train-first", "--workspace", "w", "--run-id", "r"]) == "w/r"
    assert capsys.readouterr().err == "alignment: 0.9\n"


def test_the_result_has_a_line_of_its_own_in_the_log(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(stage_task.TASKS, "train-first", lambda: "")
    monkeypatch.setattr("sys.argv", ["stage_task", "train-first"])
    stage_task.main()
    assert capsys.readouterr().out == "result: \n", "also where nothing is what it returns"
