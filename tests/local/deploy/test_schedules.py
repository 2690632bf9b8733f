"""One recurring run of a name, however often it is set; a running run is never lost with an old schedule."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from optimas_core.artifacts import Workspace
from optimas_core.deploy import CompiledPipeline, Scheduled, pause, read_cron, remove, resume, schedules, set_schedule
from optimas_core.deploy._schedule import schedule_lease
from optimas_core.errors import SpecError
from optimas_core.launchers.kfp_api import KfpApi

NIGHTLY = "0 0 2 * * *"


def put(
    api: KfpApi,
    pipeline: CompiledPipeline,
    cron: str = NIGHTLY,
    *,
    name: str = "nightly",
    made_for: str = "2.17.0",
    hold: AbstractContextManager[Any] | None = None,
    wait_s: float = 0.0,
    sleep: Callable[[float], None] = lambda seconds: None,
    **parameters: Any,
) -> Scheduled:
    return set_schedule(
        api,
        name=name,
        cron=read_cron(cron),
        experiment_id=api.ensure_experiment("optimas"),
        pipeline=api.ensure_pipeline_version(pipeline.name, pipeline.data),
        parameters={"run_id": "colours", **parameters},
        service_account="",
        made_for=made_for,
        hold=hold or nullcontext(),
        wait_s=wait_s,
        sleep=sleep,
    )


def test_setting_it_again_changes_nothing_and_another_one_replaces_it(kfp: Any, api: KfpApi, pipeline: CompiledPipeline) -> None:
    first = put(api, pipeline)
    (there,) = kfp.recurring.values()
    assert first.action == "created" and there["no_catchup"] is True and there["max_concurrency"] == "1" and there["mode"] == "ENABLE"
    assert there["trigger"]["cron_schedule"]["cron"] == NIGHTLY
    assert put(api, pipeline, "0 0 2 ? * *") == Scheduled("nightly", "unchanged", first.recurring_id), "the same in other words"
    for change in ({"cron": "0 0 3 * * *"}, {"gpus": 1}, {"made_for": "2.18.0"}):
        changed = put(api, pipeline, **change)  # type: ignore[arg-type]
        assert changed.action == "replaced" and list(kfp.recurring) == [changed.recurring_id]
    other = put(api, pipeline, name="weekly")
    assert other.action == "created" and len(kfp.recurring) == 2


def test_a_lost_answer_makes_no_second_one_and_duplicates_are_removed(kfp: Any, api: KfpApi, pipeline: CompiledPipeline) -> None:
    put(api, pipeline)
    kfp.recurring.clear()
    kfp.lost_answers = 1
    done = put(api, pipeline)
    assert list(kfp.recurring) == [done.recurring_id]
    twin = dict(kfp.recurring[done.recurring_id]) | {"recurring_run_id": "twin"}
    kfp.recurring["twin"] = twin  # the server takes a name twice
    assert put(api, pipeline).action == "unchanged" and len(kfp.recurring) == 1


def test_three_at_once_make_one(kfp: Any, client_of: Callable[..., KfpApi], pipeline: CompiledPipeline, tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "workspace")
    clients = [client_of() for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda client: put(client, pipeline, hold=schedule_lease(workspace, "nightly")), clients))
    assert len(kfp.recurring) == 1 and sorted(item.action for item in done) == ["created", "unchanged", "unchanged"]


def test_an_old_one_stays_off_until_its_running_run_has_ended(kfp: Any, api: KfpApi, pipeline: CompiledPipeline) -> None:
    old = put(api, pipeline)
    run_id = kfp.fire(old.recurring_id)
    kfp.move(run_id, "RUNNING")
    new = put(api, pipeline, gpus=1)
    assert new.finishing == (old.recurring_id,) and kfp.recurring[old.recurring_id]["status"] == "DISABLED"
    assert kfp.recurring[new.recurring_id]["status"] == "ENABLED" and "lost" not in kfp.runs[run_id]
    assert put(api, pipeline, gpus=1) == Scheduled("nightly", "unchanged", new.recurring_id, (old.recurring_id,))
    kfp.move(run_id, "SUCCEEDED")
    assert put(api, pipeline, gpus=1).finishing == () and list(kfp.recurring) == [new.recurring_id]


def test_a_running_run_can_be_waited_for(kfp: Any, api: KfpApi, pipeline: CompiledPipeline) -> None:
    old = put(api, pipeline)
    run_id = kfp.fire(old.recurring_id)
    new = put(api, pipeline, gpus=1, wait_s=600, sleep=lambda seconds: kfp.move(run_id, "SUCCEEDED"))
    assert new.finishing == () and list(kfp.recurring) == [new.recurring_id] and "lost" not in kfp.runs[run_id]


def test_pause_resume_and_delete(kfp: Any, api: KfpApi, pipeline: CompiledPipeline) -> None:
    old = put(api, pipeline)
    run_id = kfp.fire(old.recurring_id)
    new = put(api, pipeline, gpus=1)
    pause(api, "optimas", "nightly")
    assert [item.enabled for item in schedules(api, "optimas")] == [False, False]
    resume(api, "optimas", "nightly")
    assert {item.recurring_id: item.enabled for item in schedules(api, "optimas")} == {old.recurring_id: False, new.recurring_id: True}
    assert remove(api, "optimas", "nightly") == (old.recurring_id,) and list(kfp.recurring) == [old.recurring_id]
    kfp.move(run_id, "FAILED")
    assert remove(api, "optimas", "nightly") == () and not kfp.recurring
    for action in (pause, resume, remove):
        with pytest.raises(SpecError, match="there is no schedule 'nightly'"):
            action(api, "optimas", "nightly")


def test_schedules_of_others_are_neither_shown_nor_counted(kfp: Any, api: KfpApi, pipeline: CompiledPipeline) -> None:
    done = put(api, pipeline)
    kfp.recurring["theirs"] = dict(kfp.recurring[done.recurring_id]) | {
        "recurring_run_id": "theirs",
        "display_name": "x",
        "description": "by hand",
    }
    assert [item.recurring_id for item in schedules(api, "optimas")] == [done.recurring_id]
    assert schedules(api, "nothing of the name") == ()


def test_the_command(
    kfp: Any,
    pipeline: CompiledPipeline,
    optimas: Callable[..., Any],
    scripted_project: Callable[..., Path],
    s3_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("optimas_core.cli._deploy.compiled", lambda name: pipeline.data)
    monkeypatch.setenv("OPTIMAS_KFP_HOST", kfp.url)
    path = scripted_project(workspace=s3_url, name="colours")
    said = optimas("schedule", path, "--cron", "0 0 2 * * 0")
    assert said.code == 0 and "colours: created. At 02:00 on Sunday." in said.out and said.out.count(" 02:00:00 UTC") == 3, said
    (there,) = kfp.recurring.values()
    base = there["runtime_config"]["parameters"]["run_id"]
    assert base != "colours" and Workspace.open(s3_url).run_ids() == [base], "changed code gets a base run of its own"
    assert "colours: unchanged" in optimas("schedule", path, "--cron", "0 0 2 * * SUN").out
    assert "colours: on, At 02:00 on Sunday (0 0 2 * * 0)" in optimas("schedule", "--list").out
    assert optimas("schedule", path, "--pause").out == "colours: paused\n"
    assert json.loads(optimas("schedule", "--list", "--json").out)[0]["enabled"] is False
    assert optimas("schedule", "--name", "colours", "--resume").code == 0
    assert optimas("schedule", path, "--delete").out == "colours: deleted\n" and not kfp.recurring
    assert optimas("schedule", "--list").out == "no schedules\n"
    for arguments, text in (
        ((path, "--cron", "0 2 * * 0"), "has five fields; Kubeflow Pipelines reads six"),
        ((path,), "one thing at a time"),
        ((path, "--cron", "0 0 2 * * 0", "--pause"), "one thing at a time"),
        (("--pause",), "no run.yaml is given"),
        (("--cron", "0 0 2 * * 0"), "no run.yaml is given"),
        ((path, "--delete"), "there is no schedule 'colours'"),
    ):
        found = optimas("schedule", *arguments)
        assert found.code == 2 and text in found.err and len(found.err.strip().splitlines()) == 1
    assert not kfp.recurring


def test_the_server_takes_the_five_fields_that_we_refuse(kfp: Any, api: KfpApi, pipeline: CompiledPipeline) -> None:
    done = put(api, pipeline)
    made = api.create_recurring_once(
        name="five",
        experiment_id=api.ensure_experiment("optimas"),
        pipeline=api.ensure_pipeline_version(pipeline.name, pipeline.data),
        parameters={},
        cron="0 2 * * 0",
        description="",
    )
    assert made.cron == "0 2 * * 0" and done.recurring_id != made.recurring_id
    with pytest.raises(SpecError, match='Write "0 0 2 \\* \\* 0"'):
        read_cron(made.cron)


def test_a_large_parameter_is_refused_before_anything_is_sent(kfp: Any, api: KfpApi, pipeline: CompiledPipeline) -> None:
    with pytest.raises(SpecError, match="'notes' has 100001 bytes"):
        put(api, pipeline, notes="x" * 100_001)
    assert not kfp.recurring
