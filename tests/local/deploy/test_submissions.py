"""A run is given to a cluster once, however often, by however many; cancel leaves nothing of it; all of it from the workspace's record."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from optimas_core.artifacts import Lease, LeaseHeld, RunWorkspace, Workspace
from optimas_core.deploy import CompiledPipeline, Submitted, Target, cancel, follow, read_pipeline, read_submission, submit_run
from optimas_core.errors import ArtifactCorrupt, AuthenticationFailed, CallTimeout, ServerFault, SpecError, TemporaryError
from optimas_core.launchers._tasks import note_kfp_run
from optimas_core.launchers.kfp_api import KfpApi, KfpHost, child_run_name, connect, stage_run_name

Client = Callable[..., KfpApi]
BUNDLE = "b" * 64


def given(
    api: KfpApi, run: RunWorkspace, pipeline: CompiledPipeline, *, bundle: str = BUNDLE, again: bool = False, **target: str
) -> Submitted:
    parameters = {"workspace": "s3://bucket/optimas", "run_id": run.run_id, "bundle": bundle}
    return submit_run(api, run, pipeline=pipeline, parameters=parameters, bundle=bundle, target=Target(**target), again=again)


def started(kfp: Any, run: RunWorkspace, name: str, state: str = "RUNNING") -> str:
    """A child run, as the controller task submits it."""
    (experiment_id,) = kfp.experiments
    run_id = str(kfp._add_run({"display_name": name, "experiment_id": experiment_id})["run_id"])
    kfp.move(run_id, state)
    return run_id


def states(kfp: Any) -> dict[str, str]:
    return {run["display_name"]: run.get("state", "") for run in kfp.runs.values()}


# Submitting


def test_submitting_again_attaches(kfp: Any, api: KfpApi, run: RunWorkspace, pipeline: CompiledPipeline) -> None:
    first = given(api, run, pipeline, service_account="optimas-stages")
    assert not first.attached and first.link == f"{kfp.url}/#/runs/details/{first.kfp_run.run_id}"
    (there,) = kfp.runs.values()
    assert (
        there["display_name"] == "colours"
        and there["service_account"] == "optimas-stages"
        and "run_id" in there["runtime_config"]["parameters"]
    )
    record = read_submission(run)
    assert record is not None and record[0].last.kfp_run_id == first.kfp_run.run_id and record[0].host == kfp.url
    for state in ("RUNNING", "SUCCEEDED"):
        kfp.move(first.kfp_run.run_id, state)
        second = given(api, run, pipeline)
        assert second.attached and second.kfp_run.state == state.lower() and len(kfp.runs) == 1


def test_eight_threads_at_once_give_one_run(kfp: Any, client_of: Client, run: RunWorkspace, pipeline: CompiledPipeline) -> None:
    kfp.create_s = 0.2
    clients = [client_of() for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda client: given(client, run, pipeline), clients))
    assert len({item.kfp_run.run_id for item in done}) == 1 and kfp.workflows == ["colours"]
    assert [item.attached for item in done].count(False) == 1


def _in_a_process(host: str, workspace: str, data: bytes, barrier: Any, answers: Any) -> None:
    with connect(KfpHost(host), deadline_s=30) as api:
        barrier.wait()
        done = given(api, Workspace.open(workspace).run("colours"), read_pipeline(data))
        answers.put((done.kfp_run.run_id, done.attached))


def test_processes_at_once_give_one_run(kfp: Any, run: RunWorkspace, pipeline: CompiledPipeline, s3_url: str) -> None:
    """Over the S3 server, as from several laptops."""
    kfp.create_s = 0.5
    fork = multiprocessing.get_context("fork")
    barrier, answers = fork.Barrier(3), fork.Queue()
    crowd = [fork.Process(target=_in_a_process, args=(kfp.url, s3_url, pipeline.data, barrier, answers)) for _ in range(3)]
    for process in crowd:
        process.start()
    done = [answers.get(timeout=60) for _ in crowd]
    for process in crowd:
        process.join(timeout=30)
    assert len({run_id for run_id, _ in done}) == 1 and sorted(attached for _, attached in done) == [False, True, True]
    assert kfp.workflows == ["colours"]


def test_a_submission_that_died_before_or_after_the_create_is_taken_up(
    kfp: Any, api: KfpApi, run: RunWorkspace, pipeline: CompiledPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*arguments: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(KfpApi, "create_run_once", dies)
        with pytest.raises(KeyboardInterrupt):
            given(api, run, pipeline)
    record = read_submission(run)
    assert record is not None and record[0].last.name == "colours" and record[0].last.kfp_run_id == ""
    with monkeypatch.context() as patch:
        patch.setattr("optimas_core.deploy._submit.record_id", dies)
        with pytest.raises(KeyboardInterrupt):
            given(api, run, pipeline)
    assert len(kfp.runs) == 1
    done = given(api, run, pipeline)
    record = read_submission(run)
    assert done.attached and record is not None and record[0].last.kfp_run_id == done.kfp_run.run_id and kfp.workflows == ["colours"]


def test_what_was_never_started_may_be_submitted_otherwise(kfp: Any, api: KfpApi, run: RunWorkspace, pipeline: CompiledPipeline) -> None:
    kfp.denied = ("experiments",)
    with pytest.raises(AuthenticationFailed, match="403"):
        given(api, run, pipeline, experiment="theirs")
    kfp.denied = ()
    assert not given(api, run, pipeline, experiment="ours", bundle="c" * 64).attached
    assert [item["display_name"] for item in kfp.experiments.values()] == ["ours"]


def test_other_code_under_the_name_of_a_submitted_run_is_refused(
    kfp: Any, api: KfpApi, run: RunWorkspace, pipeline: CompiledPipeline
) -> None:
    first = given(api, run, pipeline)
    with pytest.raises(SpecError, match="with other code.*--again"):
        given(api, run, pipeline, bundle="c" * 64)
    assert given(api, run, pipeline, again=True).attached, "it lives"
    kfp.move(first.kfp_run.run_id, "FAILED")
    assert not given(api, run, pipeline, bundle="c" * 64, again=True).attached and len(kfp.runs) == 2


def test_a_failed_run_goes_on_only_when_asked_to(kfp: Any, client_of: Client, run: RunWorkspace, pipeline: CompiledPipeline) -> None:
    api = client_of()
    first = given(api, run, pipeline)
    kfp.move(first.kfp_run.run_id, "FAILED", "out of memory")
    told = given(api, run, pipeline)
    assert told.attached and told.kfp_run.errors == ("out of memory",) and len(kfp.runs) == 1
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda client: given(client, run, pipeline, again=True), [client_of() for _ in range(4)]))
    assert sorted(states(kfp)) == ["colours", "colours-again-2"] and len(kfp.workflows) == 2
    assert len({item.kfp_run.run_id for item in done}) == 1
    assert given(api, run, pipeline).kfp_run.run_id == done[0].kfp_run.run_id


def test_another_installation_does_not_know_the_run(
    kfp: Any, kfp_module: Any, api: KfpApi, run: RunWorkspace, pipeline: CompiledPipeline
) -> None:
    given(api, run, pipeline)
    other = kfp_module.KfpServer()
    try:
        with connect(KfpHost(other.url)) as there:
            with pytest.raises(SpecError, match=rf"submitted to {kfp.url}; {other.url} does not know it"):
                given(there, run, pipeline)
            assert not other.runs and not given(there, run, pipeline, again=True).attached
    finally:
        other.close()


def test_a_run_that_a_process_drives_is_not_submitted(
    kfp: Any, api: KfpApi, run: RunWorkspace, pipeline: CompiledPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optimas_core.deploy._submit._LEASE_WAIT_S", 0.0)
    lease = Lease(run, ttl_s=1.5)
    lease.acquire()
    with lease.keep(), pytest.raises(LeaseHeld):
        given(api, run, pipeline)
    assert not kfp.runs and not given(api, run, pipeline).attached


def test_attaching_needs_no_lease(kfp: Any, api: KfpApi, run: RunWorkspace, pipeline: CompiledPipeline) -> None:
    """The controller in the cluster holds it while the run goes."""
    first = given(api, run, pipeline)
    lease = Lease(run)
    lease.acquire()
    assert given(api, run, pipeline).kfp_run.run_id == first.kfp_run.run_id
    lease.release()


def test_a_damaged_record_is_named(kfp: Any, api: KfpApi, run: RunWorkspace, pipeline: CompiledPipeline) -> None:
    for data in (
        b"{",
        b"[]",
        b'{"format": 2}',
        b'{"format": 1, "attempts": [], "run_id": "colours", "host": "", "experiment": "", "bundle": ""}',
    ):
        run.store.put(f"{run.prefix}/submission.json", data)
        with pytest.raises(ArtifactCorrupt, match="submission.json is damaged"):
            given(api, run, pipeline)
    assert not kfp.runs


# Waiting


def test_waiting_tells_what_changes_and_survives_a_server_that_is_away(
    kfp: Any, client_of: Client, run: RunWorkspace, pipeline: CompiledPipeline
) -> None:
    api = client_of(deadline_s=0.2)
    run_id = given(api, run, pipeline).kfp_run.run_id
    message = 'CreateContainerConfigError: secret "llm-keys" not found'
    said: list[str] = []
    steps = iter(
        [
            lambda: kfp.nodes.update(
                {run_id: {"n": {"type": "Pod", "phase": "Pending", "name": "c.root.train-lrf.executor", "message": message}}}
            ),
            lambda: kfp.move(run_id, "RUNNING"),
            lambda: kfp.next_statuses.extend([503] * 4),
            lambda: (kfp.next_statuses.clear(), kfp.move(run_id, "SUCCEEDED")),
        ]
    )
    ended = follow(api, run_id, say=said.append, sleep=lambda seconds: next(steps)())
    assert ended.state == "succeeded" and said[0] == "colours: pending" and said[-1] == "colours: succeeded"
    assert "train-lrf: secret 'llm-keys' does not exist in the namespace." in said and any("still waiting" in text for text in said)
    assert len(said) == len(set(said))


# Canceling


def test_cancel_leaves_nothing_of_the_run_and_all_of_the_others(
    kfp: Any, api: KfpApi, run: RunWorkspace, pipeline: CompiledPipeline
) -> None:
    parent = given(api, run, pipeline).kfp_run.run_id
    kfp.move(parent, "RUNNING")
    started(kfp, run, stage_run_name("colours", "warm-up"), "SUCCEEDED")
    done = started(kfp, run, child_run_name("colours", 0), "SUCCEEDED")
    started(kfp, run, child_run_name("colours", 1))
    for other in ("colours-it-is-late", "colours-2-it-0000", "colours-it-0001x"):
        started(kfp, run, other)
    late = []

    def submits_one_more(stopped: dict[str, Any]) -> None:
        if stopped["run_id"] == parent:
            late.append(started(kfp, run, child_run_name("colours", 2)))

    kfp.on_terminate = submits_one_more
    ended = cancel(run, api, interval_s=0.01)
    assert ended.names == ("colours", "colours-it-0001", "colours-it-0002") and late
    now = states(kfp)
    assert {now[name] for name in ended.names} == {"FAILED"} and kfp.runs[done]["state"] == "SUCCEEDED"
    assert {now[other] for other in ("colours-it-is-late", "colours-2-it-0000", "colours-it-0001x")} == {"RUNNING"}
    stops = [path.split("/")[4].partition(":")[0] for method, path in kfp.requests if path.endswith(":terminate")]
    assert stops[0] == parent, "the controller first, or it starts what was just ended again"
    assert cancel(run, api, interval_s=0.01).names == ()
    assert given(api, run, pipeline).kfp_run.state == "canceled"


def test_cancel_waits_for_the_end_of_the_controller_and_looks_once_more(
    kfp: Any, api: KfpApi, run: RunWorkspace, pipeline: CompiledPipeline
) -> None:
    """No signal reaches its process: it may submit until its pod is gone."""
    given(api, run, pipeline)
    kfp.on_end = lambda ended: started(kfp, run, child_run_name("colours", 0)) if ended["display_name"] == "colours" else None
    assert cancel(run, api, interval_s=0.01).names == ("colours", "colours-it-0000")
    assert states(kfp)["colours-it-0000"] == "FAILED"


def test_cancel_finds_a_run_whose_id_was_never_written_and_every_run_of_its_name(
    kfp: Any, api: KfpApi, run: RunWorkspace, pipeline: CompiledPipeline
) -> None:
    given(api, run, pipeline)
    started(kfp, run, "colours")
    found = read_submission(run)
    assert found is not None
    body = json.loads((run.store.get(f"{run.prefix}/submission.json") or pytest.fail("no record")).data)
    body["attempts"][0]["kfp_run_id"] = ""
    run.store.put(f"{run.prefix}/submission.json", json.dumps(body).encode())
    assert cancel(run, api, interval_s=0.01).names == ("colours", "colours")
    assert {item["state"] for item in kfp.named("colours")} == {"FAILED"}


def test_cancel_of_what_a_schedule_started_finds_it_by_what_its_first_task_wrote(kfp: Any, api: KfpApi, run: RunWorkspace) -> None:
    api.ensure_experiment("optimas")
    parent = started(kfp, run, "run of a schedule")
    started(kfp, run, child_run_name("colours", 0))
    note_kfp_run(run, parent)
    assert cancel(run, api, interval_s=0.01).names == ("colours-it-0000", "run of a schedule")
    assert set(states(kfp).values()) == {"FAILED"}
    note_kfp_run(run, "00000000-0000-4000-8000-000000000000")
    with pytest.raises(SpecError, match="which a schedule started"):
        cancel(run, api)


def test_cancel_goes_on_where_the_server_was_away(kfp: Any, api: KfpApi, run: RunWorkspace, pipeline: CompiledPipeline) -> None:
    given(api, run, pipeline)
    kfp.next_statuses = [503, 500, 429]
    assert cancel(run, api, interval_s=0.01).names == ("colours",)


def test_cancel_says_what_does_not_end(kfp: Any, api: KfpApi, run: RunWorkspace, pipeline: CompiledPipeline) -> None:
    given(api, run, pipeline)
    kfp.ending_looks = 10**6
    with pytest.raises(CallTimeout, match="not ended after 0 s: colours"):
        cancel(run, api, wait_s=0, interval_s=0.01)


def test_cancel_of_what_was_never_submitted_or_lies_elsewhere(
    kfp: Any, kfp_module: Any, api: KfpApi, run: RunWorkspace, pipeline: CompiledPipeline
) -> None:
    with pytest.raises(SpecError, match="never submitted"):
        cancel(run, api)
    given(api, run, pipeline)
    other = kfp_module.KfpServer()
    try:
        with connect(KfpHost(other.url)) as there, pytest.raises(SpecError, match=rf"was submitted to {kfp.url}"):
            cancel(run, there)
    finally:
        other.close()


def test_a_server_that_stays_away_is_a_temporary_error(kfp: Any, client_of: Client, run: RunWorkspace, pipeline: CompiledPipeline) -> None:
    kfp.next_statuses = [503] * 100
    with pytest.raises(TemporaryError) as caught:
        given(client_of(deadline_s=0.3), run, pipeline)
    assert isinstance(caught.value, ServerFault) and not kfp.runs
