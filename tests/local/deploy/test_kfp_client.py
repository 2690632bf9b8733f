"""The client against a server with the measured oddities: nothing is made twice, nothing waits for ever, no token is told."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from optimas_core.deploy import CompiledPipeline
from optimas_core.errors import (
    AuthenticationFailed,
    CallRejected,
    EnvironmentNotReady,
    OptimasError,
    ServerFault,
    SpecError,
    TemporaryError,
)
from optimas_core.launchers.kfp_api import KfpApi, KfpHost, NotFound, PipelineIds, RunView, connect, get_or_create_run

Client = Callable[..., KfpApi]


@pytest.fixture
def ready(api: KfpApi, pipeline: CompiledPipeline) -> tuple[str, PipelineIds]:
    return api.ensure_experiment("optimas"), api.ensure_pipeline_version(pipeline.name, pipeline.data)


def started(api: KfpApi, ready: tuple[str, PipelineIds], name: str = "colours", **parameters: Any) -> RunView:
    return api.create_run_once(name=name, experiment_id=ready[0], pipeline=ready[1], parameters=parameters)


# Is it the right server


def test_the_server_says_what_it_is(kfp: Any, api: KfpApi) -> None:
    assert api.check(sdk_version="2.17.0").version == "2.17.0"
    kfp.tag_name = "2.18.1"
    assert api.check(sdk_version="2.17.0").version == "2.18.1"
    kfp.tag_name = "unknown"
    assert api.check(sdk_version="2.17.0")


@pytest.mark.parametrize("tag", ["2.16.1", "v2.5.0", "1.9.0"])
def test_an_sdk_newer_than_the_server_is_named_with_both_versions(kfp: Any, api: KfpApi, tag: str) -> None:
    kfp.tag_name = tag
    with pytest.raises(EnvironmentNotReady, match=rf"{tag}, but our pipelines were compiled with kfp 2\.17\.0.*Upgrade"):
        api.check(sdk_version="2.17.0")


def test_many_users_need_a_namespace(kfp: Any, api: KfpApi, client_of: Client) -> None:
    kfp.multi_user = True
    with pytest.raises(EnvironmentNotReady, match="--namespace"):
        api.check()
    mine = client_of(namespace="alice")
    assert mine.check().multi_user and mine.ensure_experiment("optimas")


def test_a_host_where_nothing_listens(kfp: Any) -> None:
    with connect(KfpHost("http://127.0.0.1:9")) as api, pytest.raises(EnvironmentNotReady, match=r"127\.0\.0\.1:9 cannot be reached"):
        api.check(deadline_s=0.5)


@contextmanager
def page(status: int, body: bytes, **headers: str) -> Iterator[str]:
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_host_that_is_something_else(kfp: Any) -> None:
    html = {"status": 200, "body": b"<html>a page</html>", "Content-Type": "text/html"}
    with (
        page(**html) as host,
        connect(KfpHost(host)) as api,
        pytest.raises(EnvironmentNotReady, match="an HTML page, so it is not the API"),
    ):
        api.check()
    with page(302, b"", Location="/dex/auth") as host, connect(KfpHost(host)) as api, pytest.raises(AuthenticationFailed, match="login"):
        api.check()
    refusal = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'  # an S3 store, measured
    with page(403, refusal) as host, connect(KfpHost(host)) as api, pytest.raises(AuthenticationFailed) as denied:
        api.check()
    assert "a page for people" in denied.value.message and "is it Kubeflow Pipelines?" in denied.value.remedy
    with page(404, b"") as host, connect(KfpHost(host)) as api, pytest.raises(EnvironmentNotReady, match="no Kubeflow Pipelines 2"):
        api.check()


# What is made is made once


def test_an_experiment_is_made_once_also_by_eight_at_once(kfp: Any, client_of: Client) -> None:
    clients = [client_of() for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda client: client.ensure_experiment("optimas"), clients))
    assert len(ids) == 1 and len(kfp.experiments) == 1 and clients[0].ensure_experiment("Optimas") not in ids, "names differ by case"


def test_no_right_to_make_experiments(kfp: Any, api: KfpApi) -> None:
    kfp.denied = ("experiments",)
    with pytest.raises(AuthenticationFailed, match=r"\(403\): User 'someone' is not authorized.*Ask for the role"):
        api.ensure_experiment("optimas")


def test_a_pipeline_version_is_its_yaml(kfp: Any, client_of: Client, pipeline: CompiledPipeline) -> None:
    clients = [client_of() for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        ids = set(pool.map(lambda client: client.ensure_pipeline_version(pipeline.name, pipeline.data), clients))
    (first,) = ids
    assert len(kfp.pipelines) == len(kfp.versions) == 1 and kfp.versions[first.version_id]["yaml"].encode() == pipeline.data
    second = clients[0].ensure_pipeline_version(pipeline.name, pipeline.data + b"# newer\n")
    assert second.pipeline_id == first.pipeline_id and second.version_id != first.version_id
    assert clients[0].ensure_pipeline_version(pipeline.name, pipeline.data) == first and len(kfp.versions) == 2


def test_an_upload_whose_answer_was_lost_is_found(kfp: Any, api: KfpApi, pipeline: CompiledPipeline) -> None:
    kfp.lost_answers = 2  # the pipeline's and the version's
    assert api.ensure_pipeline_version(pipeline.name, pipeline.data).version_id in kfp.versions
    assert len(kfp.pipelines) == len(kfp.versions) == 1


def test_an_upload_without_the_right_says_what_the_400_may_mean(kfp: Any, api: KfpApi, pipeline: CompiledPipeline) -> None:
    kfp.denied = ("versions",)
    with pytest.raises(CallRejected, match="See whether you may create pipelines"):
        api.ensure_pipeline_version(pipeline.name, pipeline.data)


def test_a_run_is_one_though_the_answer_was_lost(kfp: Any, api: KfpApi, ready: tuple[str, PipelineIds]) -> None:
    kfp.lost_answers = 1
    made, created = get_or_create_run(
        api, name="colours", experiment_id=ready[0], pipeline=ready[1], parameters={"run_id": "colours"}, hold=nullcontext()
    )
    assert created and [run["run_id"] for run in kfp.named("colours")] == [made.run_id] and kfp.workflows == ["colours"]
    again = get_or_create_run(api, name="colours", experiment_id=ready[0], pipeline=ready[1], parameters={}, hold=nullcontext())
    assert again == (made, False)


def test_without_a_lease_two_creations_are_two_runs_and_the_later_one_is_ended(
    kfp: Any, api: KfpApi, ready: tuple[str, PipelineIds]
) -> None:
    """What the lease is for; and what heals a create that was carried out after its client had given up."""

    class SomeoneElse:
        def __enter__(self) -> None:
            started(api, ready)

        def __exit__(self, *exception: Any) -> None:
            pass

    assert len({started(api, ready, "twice").run_id, started(api, ready, "twice").run_id}) == 2
    found = [run.run_id for run in api.find_runs("twice", ready[0])]
    assert len(found) == 2
    kfp.create_s = 0.3
    with ThreadPoolExecutor(2) as pool:
        made = [pool.submit(get_or_create_run, api, **_wanted(ready, nullcontext())) for _ in range(2)]
        runs = {future.result()[0].run_id for future in made}
    assert runs == {api.find_runs("colours", ready[0])[0].run_id} and len(kfp.workflows) == 4
    ending = [run for run in kfp.named("colours") if run.get("state")]
    assert len(ending) == 1 and ending[0]["state"] in ("CANCELING", "FAILED")
    assert get_or_create_run(api, **_wanted(ready, SomeoneElse(), name="other"))[1]


def _wanted(ready: tuple[str, PipelineIds], hold: Any, name: str = "colours") -> dict[str, Any]:
    return {"name": name, "experiment_id": ready[0], "pipeline": ready[1], "parameters": {}, "hold": hold}


def test_our_own_run_ids_are_never_sent(kfp: Any, api: KfpApi, ready: tuple[str, PipelineIds]) -> None:
    """The server that is asked with one twice starts a Workflow that no list shows."""
    body = {"display_name": "x", "experiment_id": ready[0], "pipeline_version_reference": {"pipeline_version_id": ready[1].version_id}}
    for status in (200, 500):
        try:
            api._http.once("POST", "/apis/v2beta1/runs", body=body | {"run_id": "11111111-1111-1111-1111-111111111111"})
        except ServerFault:
            assert status == 500
    assert kfp.workflows == ["x", "x"] and len(kfp.named("x")) == 1
    assert started(api, ready).run_id != started(api, ready).run_id


def test_a_parameter_of_more_than_100_kb_is_refused_before_anything_is_sent(kfp: Any, api: KfpApi, ready: tuple[str, PipelineIds]) -> None:
    before = len(kfp.requests)
    for value in ("x" * 100_001, ["é" * 50_001]):
        with pytest.raises(SpecError, match=r"'notes' has 1000\d\d bytes.*pass its URI and digest"):
            get_or_create_run(api, **_wanted(ready, nullcontext()) | {"parameters": {"notes": value}})
    with pytest.raises(SpecError, match="'notes' is no JSON"):
        started(api, ready, notes=float("nan"))
    assert len(kfp.requests) == before
    assert started(api, ready, notes="x" * 100_000)


# What a run says


def test_states_of_a_run(kfp: Any, api: KfpApi, ready: tuple[str, PipelineIds]) -> None:
    run = started(api, ready)
    assert (run.state, run.finished) == ("pending", False), "no state at first"
    for state, seen in (("RUNNING", "running"), ("PAUSED", "running"), ("SOMETHING_NEW", "pending"), ("SUCCEEDED", "succeeded")):
        kfp.move(run.run_id, state)
        assert api.get_run(run.run_id).state == seen
    assert api.get_run(run.run_id).finished and not hasattr(api.get_run(run.run_id), "outputs")
    failed = started(api, ready, "failing")
    kfp.move(failed.run_id, "FAILED", "No more   retries left")
    assert api.get_run(failed.run_id).state == "failed" and api.get_run(failed.run_id).errors == ("No more retries left",)
    with pytest.raises(NotFound):
        api.get_run("00000000-0000-0000-0000-000000000000")
    with pytest.raises(CallRejected, match="no id"):
        api.get_run("../experiments")


def test_a_terminated_run_is_canceling_and_then_canceled_though_the_server_says_failed(
    kfp: Any, api: KfpApi, ready: tuple[str, PipelineIds]
) -> None:
    run = started(api, ready)
    kfp.move(run.run_id, "RUNNING")
    api.terminate_run(run.run_id)
    api.terminate_run(run.run_id)  # 400 "Row not found": it is ending already
    seen = [api.get_run(run.run_id).state for _ in range(4)]
    assert seen[0] == "canceling" and seen[-1] == "canceled" and kfp.runs[run.run_id]["state"] == "FAILED"
    api.terminate_run(run.run_id)
    kfp.move(run.run_id, "RUNNING")  # the retry API restarts a canceled run too
    kfp.move(run.run_id, "FAILED")
    assert api.get_run(run.run_id).state == "failed"


def test_runs_are_listed_by_prefix_in_small_pages(kfp: Any, api: KfpApi, ready: tuple[str, PipelineIds]) -> None:
    for index in range(23):
        started(api, ready, f"colours-it-{index:04d}")
    for other in ("colours", "Colours", "coloursXit-0001", "my-colours-it-0001", "COLOURS-it-0001"):
        started(api, ready, other)
    kfp.answered_bytes = 0
    assert [run.name for run in api.list_runs(ready[0], "colours-it-")] == [f"colours-it-{index:04d}" for index in range(23)]
    assert kfp.answered_bytes < 26 * 43_000 and kfp.largest_answer < 11 * 43_000
    assert len(api.find_runs("colours", ready[0])) == 1 and api.find_runs("nobody", ready[0]) == ()


def test_what_keeps_pods_from_starting(kfp: Any, api: KfpApi, ready: tuple[str, PipelineIds]) -> None:
    run = started(api, ready)
    assert api.pod_problems(run.run_id) == ()
    name = "controller-x7k2p.root.train-lrf.executor(0)"
    message = "Unschedulable: 0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: 0/1 nodes are available."
    kfp.nodes[run.run_id] = {"n1": {"type": "Pod", "phase": "Pending", "name": name, "message": message}}
    (problem,) = api.pod_problems(run.run_id)
    assert problem.step == "train-lrf" and "no node has enough nvidia.com/gpu free" in problem.sentence


# Faults


def test_a_server_that_is_away_for_seconds_is_waited_for(kfp: Any, api: KfpApi, ready: tuple[str, PipelineIds]) -> None:
    run = started(api, ready)
    kfp.down_until = time.monotonic() + 1.5
    assert api.get_run(run.run_id).run_id == run.run_id and time.monotonic() >= kfp.down_until


def test_5xx_and_429_are_tried_again_and_4xx_are_not(kfp: Any, api: KfpApi, ready: tuple[str, PipelineIds]) -> None:
    run = started(api, ready)
    kfp.next_statuses = [503, 429, 500]
    assert api.get_run(run.run_id)
    before = len(kfp.requests)
    for status, kind in ((400, CallRejected), (401, AuthenticationFailed), (403, AuthenticationFailed), (404, NotFound)):
        kfp.next_statuses = [status]
        with pytest.raises(kind) as caught:
            api.get_run(run.run_id)
        assert caught.value.remedy
    assert len(kfp.requests) == before + 4


def test_the_deadline_ends_the_trying(kfp: Any, client_of: Client) -> None:
    short = client_of(deadline_s=1.0)
    kfp.next_statuses = [503] * 100
    with pytest.raises(TemporaryError):
        short.get_run("1")
    assert 1 <= len(kfp.requests) < 30


def test_no_text_holds_a_token(kfp: Any, client_of: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The server here repeats the header it was sent."""
    token = "eyJhbGciOi-not-a-real-one"
    monkeypatch.setenv("OPTIMAS_KFP_TOKEN", token)
    kfp.token = token
    api = client_of(deadline_s=0.5)
    assert api.check()
    kfp.token = "another"
    for statuses in ([], [403], [404], [400], [500] * 50):
        kfp.next_statuses = statuses
        with pytest.raises(OptimasError) as caught:
            api.get_run("1")
        kfp.next_statuses = []
        shown = "".join(map(str, (caught.value, caught.value.remedy, caught.value.__cause__, caught.value.__context__)))
        assert token not in shown and token not in repr(caught.value)


def test_no_text_holds_the_cookie_of_the_context_file(kfp: Any, client_of: Client, tmp_path: Path) -> None:
    """It is in no variable of the environment, and has no look of a key."""
    (tmp_path / "context.json").write_text('{"client_authentication_cookie": "session=plain-words-only"}')
    kfp.next_statuses = [400]
    with pytest.raises(CallRejected) as caught:
        client_of().get_run("1")
    assert "as told" in str(caught.value) and "plain-words-only" not in str(caught.value)


def test_a_projected_token_is_read_again_as_it_rotates(
    kfp: Any, client_of: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(file))
    with pytest.raises(EnvironmentNotReady, match="token file"):
        client_of()
    file.write_text("first-token\n")
    api = client_of()
    for token in ("first-token", "second-token"):
        file.write_text(token + "\n")
        kfp.token = token
        assert api.check()
