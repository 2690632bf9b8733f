"""Call records: first writer wins, damage costs one call, nothing more."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from optimas_core.artifacts import DirectoryStore, Workspace

CALL = "0123456789abcdef" * 2
KEY = f"calls/01/{CALL}"


def test_the_first_writer_wins(tmp_path):
    calls = Workspace.open(tmp_path).calls
    assert calls.get(CALL) is None
    assert calls.put(CALL, {"text": "first \ud800", "usd": None}) == {"text": "first \ud800", "usd": None}
    assert calls.put(CALL, {"text": "second"})["text"] == "first \ud800"
    assert calls.get(CALL) == {"text": "first \ud800", "usd": None}
    assert list(calls.store.list("calls/")) == [KEY]


def test_of_16_writers_all_get_the_same_record(tmp_path):
    calls = Workspace.open(tmp_path).calls
    barrier = threading.Barrier(16)

    def put(index: int):
        barrier.wait()
        return calls.put(CALL, {"n": index})

    with ThreadPoolExecutor(16) as pool:
        records = list(pool.map(put, range(16)))
    assert all(record == calls.get(CALL) for record in records)


@pytest.mark.parametrize("junk", [b"", b"{", b"[]", b'{"record":{"n":1},"check":"0"}', b'{"record":{"n":NaN},"check":"0"}', b"\xff" * 9])
def test_a_damaged_record_is_absent_with_a_warning_and_replaced(tmp_path, caplog, junk):
    calls = Workspace.open(tmp_path).calls
    calls.store.put(KEY, junk)
    with caplog.at_level(logging.WARNING):
        assert calls.get(CALL) is None
    assert CALL in caplog.text and "damaged" in caplog.text
    assert calls.put(CALL, {"n": 2}) == {"n": 2}
    assert calls.get(CALL) == {"n": 2}


def test_records_are_not_flushed_one_by_one(tmp_path, monkeypatch):
    def flush(_: int) -> None:
        raise AssertionError("flushed")

    monkeypatch.setattr("os.fsync", flush)
    Workspace(DirectoryStore(tmp_path)).calls.put(CALL, {"n": 1})


@pytest.mark.parametrize("call", ["", "../x", "xyz", "AB" * 16])
def test_only_digests_are_names(tmp_path, call):
    with pytest.raises(ValueError):
        Workspace.open(tmp_path).calls.get(call)
