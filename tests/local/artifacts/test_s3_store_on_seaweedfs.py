"""The S3 store against a real server over HTTP, and through a proxy that loses answers."""

from __future__ import annotations

import http.client
import http.server
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from optimas_core.artifacts import Conflict, Lease, LeaseHeld, S3Store, Workspace, collect, open_store, probe
from optimas_core.errors import EnvironmentNotReady, LeaseLost, StoreUnavailable

DIGEST = "ab" * 16


def _together(count: int, action) -> list:
    barrier = threading.Barrier(count)

    def one(index: int):
        barrier.wait()
        try:
            return action(index)
        except Conflict as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_get_put_list_delete(s3_url):
    store = open_store(s3_url)
    assert store.get("a/b") is None
    etag = store.put("a/b", b"1")
    blob = store.get("a/b")
    assert (blob.data, blob.etag) == (b"1", etag)
    for key in ("a-b", "a/c", "a.b", "b"):
        store.put(key, b"")
    assert list(store.list()) == ["a-b", "a.b", "a/b", "a/c", "b"]
    assert list(store.list("a/")) == ["a/b", "a/c"]
    assert list(store.list("a/b")) == ["a/b"]
    entry = next(store.scan("a/b"))
    assert entry.size == 1 and abs(entry.modified_at_s - time.time()) < 300
    store.delete("a/b")
    store.delete("a/b")
    assert store.get("a/b") is None


def test_of_16_writers_at_once_exactly_one_creates_the_key(s3_url):
    store = open_store(s3_url)
    results = _together(16, lambda i: store.put("one", b"%d" % i, if_absent=True))
    winners = [i for i, result in enumerate(results) if isinstance(result, str)]
    assert len(winners) == 1
    assert store.get("one").data == b"%d" % winners[0]


def test_of_16_writers_at_once_exactly_one_swaps(s3_url):
    store = open_store(s3_url)
    etag = store.put("one", b"old")
    results = _together(16, lambda i: store.put("one", b"new %d" % i, if_match=etag))
    assert sum(isinstance(result, str) for result in results) == 1
    with pytest.raises(Conflict):
        store.put("gone", b"", if_match=etag)


def test_the_probe_passes_and_leaves_nothing(s3_url):
    store = open_store(s3_url)
    probe(store)
    assert list(store.list()) == []


def test_wrong_credentials_are_one_sentence_without_the_secret(s3_url, s3_environment, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret-value")
    with pytest.raises(EnvironmentNotReady) as caught:
        probe(open_store(s3_url))
    assert "access denied" in str(caught.value) and "AWS_SECRET_ACCESS_KEY" in str(caught.value)
    assert "wrong-secret-value" not in str(caught.value) and s3_environment.access_key not in str(caught.value)


def test_a_missing_bucket_is_named(s3_environment):
    store = open_store("s3://no-such-bucket-here/x")
    for action in (lambda: store.get("a"), lambda: probe(store), lambda: list(store.list())):
        with pytest.raises(EnvironmentNotReady, match="no-such-bucket-here"):
            action()


def test_an_unreachable_server_is_temporary_but_not_ready_at_the_start(s3_environment):
    store = S3Store("s3://b/x", endpoint_url="http://127.0.0.1:9", timeout_s=1, attempts=1)
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:9"):
        store.get("a")
    with pytest.raises(EnvironmentNotReady):
        probe(store)


class _Loses(http.server.BaseHTTPRequestHandler):
    """Hands requests on; the answers to the next `lose` PUTs are thrown away after the server committed them."""

    protocol_version = "HTTP/1.1"
    upstream = ""
    lose = 0
    refuse = 0

    def _forward(self) -> None:
        kind = type(self)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.command == "PUT" and kind.refuse > 0:
            kind.refuse -= 1
            self.send_response(409)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        connection = http.client.HTTPConnection(kind.upstream)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            connection.putheader(name, value)  # the signed Host too
        connection.endheaders(body)
        answer = connection.getresponse()
        data = answer.read()
        if self.command == "PUT" and kind.lose > 0:
            kind.lose -= 1
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_DELETE = _forward

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def _proxy(endpoint_url: str) -> Iterator[tuple[str, type[_Loses]]]:
    handler = type("Loses", (_Loses,), {"upstream": urlsplit(endpoint_url).netloc})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", handler
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("lost", [1, 4])
def test_a_write_whose_answer_was_lost_is_ours(s3_url, s3_environment, lost):
    """1: boto3 repeats the request and is refused; 4: every try is lost."""
    with _proxy(s3_environment.endpoint_url) as (endpoint, handler):
        store = S3Store(s3_url, endpoint_url=endpoint, timeout_s=5)
        handler.lose = lost
        etag = store.put("state", b"ours", if_absent=True)
        assert handler.lose == 0
        assert store.get("state").etag == etag
        handler.lose = lost
        store.put("state", b"next", if_match=etag)
        assert store.get("state").data == b"next"


def test_a_repeated_write_is_still_refused_when_another_won(s3_url, s3_environment):
    open_store(s3_url).put("state", b"theirs")
    with _proxy(s3_environment.endpoint_url) as (endpoint, handler):
        handler.lose = 1
        with pytest.raises(Conflict):
            S3Store(s3_url, endpoint_url=endpoint, timeout_s=5).put("state", b"ours", if_absent=True)


def test_409_is_tried_again_and_not_for_ever(s3_url, s3_environment):
    with _proxy(s3_environment.endpoint_url) as (endpoint, handler):
        store = S3Store(s3_url, endpoint_url=endpoint, timeout_s=5)
        handler.refuse = 2
        store.put("state", b"1", if_absent=True)
        handler.refuse = 1000
        with pytest.raises(StoreUnavailable, match="409"):
            store.put("state2", b"1", if_absent=True)


def test_the_newest_of_1000_states_takes_few_requests(s3_url, s3_environment):
    run = Workspace.open(s3_url).run("r1")
    states = [run.prefix + f"/state/{i:06d}.json" for i in range(1000)]
    run.append_state(0, {"n": 0})
    template = run.store.get(states[0]).data
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda i: run.store.put(states[i], template.replace(b'"index":0', b'"index":%d' % i)), range(1, 999)))
    with _proxy(s3_environment.endpoint_url) as (endpoint, handler):
        requests: list[str] = []
        handler.log_request = lambda self, *_: requests.append(self.path)
        far = type(run)(S3Store(s3_url, endpoint_url=endpoint), "r1")
        run.append_state(999, {"n": 999})
        assert far.latest_state().index == 999
        assert len(requests) == 3
        requests.clear()
        run.store.put(f"{run.prefix}/state/HEAD", b"7")  # stale: a listing is cheaper than 992 steps
        assert far.latest_state().index == 999
        assert len(requests) < 30


def test_of_16_appenders_one_wins_each_state(s3_url):
    run = Workspace.open(s3_url).run("r1")
    for index in range(3):
        results = _together(16, lambda i, index=index: run.append_state(index, {"writer": i}))
        assert sum(result is None for result in results) == 1
    assert run.latest_state().index == 2


def test_artifacts_committed_by_8_at_once_are_one(s3_url):
    run = Workspace.open(s3_url).run("r1")
    what = {"inputs": {"data": "cd" * 16}, "producer": "code", "created_at": "2025-01-01T00:00:00Z"}
    files = {"part-0.parquet": b"x" * 1000, "config.json": b"{}"}
    results = _together(8, lambda i: run.commit_artifact("lrf", DIGEST, files, **what))
    assert all(result.manifest == results[0].manifest for result in results)
    artifact = run.open_artifact("lrf", DIGEST)
    assert {name: artifact.read(name) for name in artifact.names} == files
    assert collect(Workspace.open(s3_url), min_age_s=-60) == []


def test_lease_and_pointer_over_http(s3_url):
    workspace = Workspace.open(s3_url)
    run = workspace.run("r1")
    first = Lease(run, "a", ttl_s=1.5)
    assert first.acquire() == 1
    with first.keep(), pytest.raises(LeaseHeld):
        Lease(run, "b", ttl_s=1.5).acquire()
    second = Lease(run, "b", ttl_s=1.5)
    assert second.acquire() == 2  # released: at once
    with pytest.raises(LeaseLost):
        first.check()
    with pytest.raises(LeaseLost):
        run.append_state(0, {}, epoch=1)
    run.append_state(0, {}, epoch=second.epoch)
    pointer = workspace.promoted("qa")
    results = _together(6, lambda i: pointer.promote(f"{i:032x}", run_id="r1", at="2025-01-01T00:00:00Z"))
    promoted = [entry for entry in results if not isinstance(entry, Conflict)]
    assert sorted(entry.serial for entry in promoted) == list(range(1, len(promoted) + 1))
    assert len(pointer.history()) == len(promoted) >= 1


def test_call_records_over_http(s3_url):
    calls = Workspace.open(s3_url).calls
    results = _together(16, lambda i: calls.put(DIGEST, {"text": f"answer {i}"}))
    assert all(result == results[0] for result in results)
    assert calls.get(DIGEST) == results[0]
