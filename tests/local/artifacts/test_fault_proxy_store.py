"""The S3 store behind a proxy that plays faults: what a write says is what happened, whoever lost which answer."""

from __future__ import annotations

import importlib
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from optimas_core.artifacts import Conflict, S3Store, Workspace, collect, open_store
from optimas_core.errors import EnvironmentNotReady, StoreUnavailable

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"
DIGEST = "ab" * 16
FACTS = {"inputs": {}, "producer": "code", "created_at": "2025-01-01T00:00:00Z"}
# name -> (kind, status, code, whether the server did what was asked)
FAULTS: dict[str, tuple[str, int, str, bool]] = {
    "the connection is reset before the request": ("reset before", 0, "", False),
    "the connection is reset after the commit": ("reset after", 0, "", True),
    "no answer until the timeout, after the commit": ("stall after", 0, "", True),
    "500 and nothing is written": ("status before", 500, "InternalError", False),
    "500 after the commit": ("status after", 500, "InternalError", True),
    "503 SlowDown": ("status before", 503, "SlowDown", False),
}
CONDITIONS = ("if_absent", "if_match", "plain")


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("_chaos.fault_proxy")


@pytest.fixture
def proxy(parts: Any, s3_environment: Any) -> Iterator[Any]:
    with parts.FaultProxy(s3_environment.endpoint_url) as proxy:
        yield proxy


@dataclass
class Case:
    """One write under one fault, on a key of its own. `times` PUTs meet it; `meanwhile` happens just before each of them."""

    fault: str
    condition: str
    times: int = 1
    meanwhile: bytes | None = None

    @property
    def key(self) -> str:
        return f"{self.fault}/{self.condition}".replace(" ", "-").replace(",", "")

    def prepare(self, near: Any) -> dict[str, Any]:
        """The condition's argument; a condition on an etag needs something there."""
        if self.condition == "if_absent":
            return {"if_absent": True}
        etag = near.put(self.key, b"old")
        return {"if_match": etag} if self.condition == "if_match" else {}


def together(cases: Sequence[Case], parts: Any, proxy: Any, near: Any, store: S3Store) -> dict[str, tuple[Case, Any, Any]]:
    """Play all cases at once. Key -> (case, the new etag or the error, the blob before)."""
    given = {case.key: case.prepare(near) for case in cases}
    before = {case.key: near.get(case.key) for case in cases}
    by_key = {case.key: case for case in cases}
    left = {case.key: case.times for case in cases}

    def plan(seen: Any) -> Any:
        key = seen.key.removeprefix("optimas/")
        if seen.method != "PUT" or left[key] == 0:
            return None
        left[key] -= 1
        kind, status, code, _ = FAULTS[by_key[key].fault]
        if (theirs := by_key[key].meanwhile) is not None:
            near.put(key, theirs)
        return parts.Fault(kind, status, code, seconds=1.5)

    def write(case: Case) -> Any:
        try:
            return store.put(case.key, b"ours", **given[case.key])
        except (Conflict, StoreUnavailable) as error:
            return error

    proxy.plan = plan
    with ThreadPoolExecutor(len(cases)) as pool:
        results = list(pool.map(write, cases))
    return {case.key: (case, result, before[case.key]) for case, result in zip(cases, results, strict=True)}


def far(s3_url: str, proxy: Any, attempts: int = 2) -> S3Store:
    return S3Store(s3_url, endpoint_url=proxy.endpoint_url, timeout_s=1.0, attempts=attempts)


def test_one_fault_and_the_write_is_ours(s3_url: str, proxy: Any, parts: Any) -> None:
    near = open_store(s3_url)
    cases = [Case(fault, condition) for fault in FAULTS for condition in CONDITIONS]
    for key, (_, result, _) in together(cases, parts, proxy, near, far(s3_url, proxy)).items():
        blob = near.get(key)
        assert blob is not None and (blob.data, blob.etag) == (b"ours", result), (key, result)
        near.put(key, b"next", if_match=result)  # the etag is good for the next swap


def test_no_answer_at_all_is_never_taken_for_a_conflict(s3_url: str, proxy: Any, parts: Any) -> None:
    near = open_store(s3_url)
    cases = [Case(fault, condition, times=99) for fault in FAULTS for condition in CONDITIONS]
    for key, (case, result, before) in together(cases, parts, proxy, near, far(s3_url, proxy, attempts=1)).items():
        there = near.get(key)
        if FAULTS[case.fault][3]:  # the server did it: a conditional write is settled by reading back, a plain one may be repeated
            assert there is not None and there.data == b"ours", key
            assert isinstance(result, StoreUnavailable) if case.condition == "plain" else result == there.etag, key
        else:
            assert there == before and isinstance(result, StoreUnavailable), key


def test_another_writer_during_the_fault_wins(s3_url: str, proxy: Any, parts: Any) -> None:
    near = open_store(s3_url)
    unheard = [fault for fault, played in FAULTS.items() if not played[3]]
    cases = [Case(fault, condition, meanwhile=b"theirs") for fault in unheard for condition in ("if_absent", "if_match")]
    for key, (_, result, _) in together(cases, parts, proxy, near, far(s3_url, proxy)).items():
        blob = near.get(key)
        assert isinstance(result, Conflict) and blob is not None and blob.data == b"theirs", key


def test_409_412_and_a_broken_body(s3_url: str, proxy: Any, parts: Any) -> None:
    near, store = open_store(s3_url), far(s3_url, proxy)
    races = iter([parts.Fault("status before", 409, "ConditionalRequestConflict")] * 3)
    proxy.plan = lambda seen: next(races, None) if seen.method == "PUT" else None
    store.put("key", b"ours", if_absent=True)
    refused = iter([parts.Fault("status before", 412, "PreconditionFailed")])
    proxy.plan = lambda seen: next(refused, None) if seen.method == "PUT" else None
    with pytest.raises(Conflict):
        store.put("other", b"ours", if_absent=True)
    assert near.get("other") is None
    near.put("long", b"x" * 200_000)
    cuts = iter([parts.Fault("cut")] * 2)
    proxy.plan = lambda seen: next(cuts, None)
    blob = store.get("long")
    assert blob is not None and blob.data == b"x" * 200_000
    proxy.plan = lambda seen: parts.Fault("cut")
    with pytest.raises(StoreUnavailable, match="long"):
        store.get("long")
    proxy.plan = lambda seen: parts.Fault("status before", 403, "RequestTimeTooSkewed")
    with pytest.raises(EnvironmentNotReady, match="clock"):
        store.get("long")


def test_a_promotion_whose_answer_was_lost_is_not_made_twice(s3_url: str, proxy: Any, parts: Any) -> None:
    """Ours is written, its answer lost; someone promotes on top; our repeated request is refused."""
    theirs, mine = Workspace.open(s3_url).promoted("qa"), Workspace(far(s3_url, proxy)).promoted("qa")
    theirs.promote("00" * 16, run_id="r0", at="t0")
    puts: list[int] = []

    def plan(seen: Any) -> Any:
        if seen.method != "PUT":
            return None
        puts.append(seen.number)
        if len(puts) == 2:
            theirs.promote("22" * 16, run_id="r2", at="t2")
        return parts.Fault("reset after") if len(puts) == 1 else None

    proxy.plan = plan
    assert mine.promote("11" * 16, run_id="r1", at="t1").serial == 2
    assert [item.configuration[:2] for item in theirs.history()] == ["00", "11", "22"]


def test_an_older_listing_hides_nothing_that_counts(s3_url: str, proxy: Any) -> None:
    near = Workspace.open(s3_url).run("r1")
    near.freeze_spec({"n": 1})
    for index in range(6):
        near.append_state(index, {"n": index})
    near.commit_artifact("lrf", DIGEST, {"a.bin": b"1", "b.bin": b"2"}, **FACTS)
    near.store.delete(f"{near.prefix}/state/HEAD")  # only a listing can tell now
    proxy.hidden = lambda key: key.endswith(("000004.json", "000005.json", "manifest.json"))
    workspace = Workspace(far(s3_url, proxy))
    latest = workspace.run("r1").latest_state()
    assert latest is not None and latest.index == 5
    assert len(list(workspace.run("r1").states())) == 6
    assert collect(workspace, min_age_s=-3600.0) == [], "a manifest that a listing lacks still protects its files"
    artifact = near.open_artifact("lrf", DIGEST)
    assert artifact is not None
    artifact.verify()


def test_a_large_object_is_one_request_so_there_are_no_parts_to_be_killed_between(s3_url: str, proxy: Any) -> None:
    store = S3Store(s3_url, endpoint_url=proxy.endpoint_url)
    data = bytes(range(256)) * (20 << 12)
    store.put("large", data, if_absent=True)
    assert [(seen.method, seen.key.rpartition("/")[2]) for seen in proxy.seen] == [("PUT", "large")]
    assert not {"uploads", "uploadId", "partNumber"} & proxy.seen[0].query.keys()
    blob = store.get("large")
    assert blob is not None and blob.data == data


def test_killed_in_the_middle_of_a_large_object_leaves_no_object(s3_url: str, s3_environment: Any) -> None:
    store, data = open_store(s3_url), b"x" * (4 << 20)
    bucket, _, prefix = s3_url.removeprefix("s3://").partition("/")
    signed = urlsplit(s3_environment.client().generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": f"{prefix}/half"}))
    head = f"PUT {signed.path}?{signed.query} HTTP/1.1\r\nHost: {signed.netloc}\r\nContent-Length: {len(data)}\r\n\r\n"
    with socket.create_connection((signed.hostname, signed.port), timeout=10) as connection:
        connection.sendall(head.encode() + data[: len(data) // 2])
    assert store.get("half") is None and list(store.list()) == []
    store.put("half", data, if_absent=True)
    blob = store.get("half")
    assert blob is not None and blob.data == data
