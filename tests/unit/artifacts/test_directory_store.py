"""The directory store: atomic, conditional, and closed against keys and links that lead outside."""

from __future__ import annotations

import errno
import multiprocessing
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimas_core.artifacts import Conflict, DirectoryStore, open_store
from optimas_core.artifacts._store import check_key, is_key
from optimas_core.errors import ArtifactCorrupt, EnvironmentNotReady, StoreUnavailable

_parts = st.sampled_from(["..", ".", "", "a", "b.c", "~", "/", "\\", "\0", "\n", " ", "é", ".lock", ".tmp-1", "%2e%2e", "a" * 201])


@settings(deadline=None)
@given(st.one_of(st.text(max_size=40), st.lists(_parts, max_size=6).map("/".join), st.lists(_parts, max_size=6).map("".join)))
def test_no_key_escapes_the_directory(tmp_path_factory, key):
    root = tmp_path_factory.getbasetemp() / "escape" / "root"
    store = DirectoryStore(root)
    try:
        store.put(key, b"x", durable=False)
    except (ValueError, EnvironmentNotReady):  # refused; or "a" is a file where "a/b" needs a folder
        return
    path = Path(root, key)
    assert path.is_file() and path.resolve().is_relative_to(root.resolve())
    assert [name for name in os.listdir(root.parent)] == ["root"]


@settings(deadline=None)
@given(st.text(max_size=30))
def test_an_accepted_key_has_only_plain_segments(key):
    if is_key(key):
        assert check_key(key) == key
        assert all(part and not part.startswith(".") and part.isascii() for part in key.split("/"))
        assert not set(key) & set("\\\0\n ~%")
    else:
        with pytest.raises(ValueError):
            check_key(key)


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/../b", ".", "a/.", "a\0b", "a\\b", "a/.lock", "a\n", "x" * 901])
def test_refused_keys(tmp_path, key):
    store = DirectoryStore(tmp_path)
    for action in (store.get, store.delete, lambda k: store.put(k, b"")):
        with pytest.raises(ValueError):
            action(key)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.lists(st.sampled_from(["a", "a-b", "a.b", "b", "B", "0"]), min_size=1, max_size=3).map("/".join),
        st.binary(max_size=20),
        max_size=6,
    ),
    st.sampled_from(["", "a", "a/", "a/a", "b/", "a-", "zz/", "a//", "../"]),
)
def test_listing_is_as_s3_lists(tmp_path_factory, values, prefix):
    store = DirectoryStore(tmp_path_factory.mktemp("list"))
    kept = {}
    for key, data in values.items():
        try:
            store.put(key, data, durable=False)
            kept[key] = data
        except EnvironmentNotReady:
            pass  # a file stands where a folder is needed: no layout of ours does that
    assert list(store.list(prefix)) == sorted(key for key in kept if key.startswith(prefix))
    assert {key: store.get(key).data for key in kept} == kept
    assert {found.key: found.size for found in store.scan()} == {key: len(data) for key, data in kept.items()}


def test_conditions(tmp_path):
    store = DirectoryStore(tmp_path)
    assert store.get("a/b") is None
    etag = store.put("a/b", b"1", if_absent=True)
    with pytest.raises(Conflict):
        store.put("a/b", b"2", if_absent=True)
    newer = store.put("a/b", b"2", if_match=etag)
    with pytest.raises(Conflict):
        store.put("a/b", b"3", if_match=etag)
    assert store.get("a/b").etag == newer and store.get("a/b").data == b"2"
    store.delete("a/b")
    store.delete("a/b")
    with pytest.raises(Conflict):
        store.put("a/b", b"3", if_match=newer)
    with pytest.raises(ValueError):
        store.put("a/b", b"3", if_match=newer, if_absent=True)
    assert list(store.list()) == [] and not [name for name in os.listdir(tmp_path / "a")]


def _contend(root: str, name: str, rounds: int, queue) -> None:
    store = DirectoryStore(root)
    won = 0
    for index in range(rounds):
        try:
            store.put(f"absent/{index}", name.encode(), if_absent=True, durable=False)
            won += 1
        except Conflict:
            pass
        while True:
            blob = store.get("counter")
            try:
                store.put("counter", str(int(blob.data) + 1).encode(), if_match=blob.etag, durable=False)
                break
            except Conflict:
                continue
    queue.put(won)


def test_processes_and_threads_contend_and_nothing_is_lost(tmp_path):
    DirectoryStore(tmp_path).put("counter", b"0")
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=_contend, args=(str(tmp_path), f"p{i}", 20, queue)) for i in range(2)]
    workers += [threading.Thread(target=_contend, args=(str(tmp_path), f"t{i}", 20, queue)) for i in range(2)]
    for worker in workers:
        worker.start()
    wins = [queue.get(timeout=30) for _ in workers]
    for worker in workers:
        worker.join()
    assert sum(wins) == 20
    assert DirectoryStore(tmp_path).get("counter").data == b"80"


def test_readers_see_whole_values_only(tmp_path):
    store = DirectoryStore(tmp_path)
    values = [bytes([i]) * 200_000 for i in range(8)]
    store.put("v", values[0], durable=False)
    with ThreadPoolExecutor(4) as pool:
        writes = [pool.submit(store.put, "v", value, durable=False) for value in values * 3]
        seen = {store.get("v").data for _ in range(60)}
        [write.result() for write in writes]
    assert seen <= set(values)


def test_links_are_not_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    root = tmp_path / "root"
    root.mkdir()
    (root / "dir").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    (root / "loop").symlink_to(root / "loop")
    store = DirectoryStore(root)
    for action in (
        lambda: store.get("dir/secret"),
        lambda: store.put("dir/new", b""),
        lambda: store.delete("dir/secret"),
        lambda: store.get("file"),
    ):
        with pytest.raises(ArtifactCorrupt):
            action()
    store.put("file", b"mine")  # replaces the link, not what it points to
    assert (outside / "secret").read_text() == "secret" and store.get("file").data == b"mine"
    assert list(store.list()) == ["file"] and sorted(os.listdir(outside)) == ["secret"]


def test_what_is_not_a_plain_file_is_not_a_value(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    store = DirectoryStore(tmp_path)
    assert store.get("pipe") is None  # and does not wait for a writer
    assert store.get("folder") is None
    assert list(store.list()) == []


def test_a_failing_flush_leaves_nothing_half_written(tmp_path, monkeypatch):
    store = DirectoryStore(tmp_path)
    store.put("a/b", b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for arguments in ({"if_absent": False}, {"if_match": store.get("a/b").etag}):
        with pytest.raises(StoreUnavailable, match="No space left on device.*Free space"):
            store.put("a/b", b"new", **arguments)
    with pytest.raises(StoreUnavailable):
        store.put("a/c", b"new", if_absent=True)
    assert store.get("a/b").data == b"old" and os.listdir(tmp_path / "a") == ["b"]


def test_a_file_size_limit_of_the_system_is_one_sentence(tmp_path):
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "from optimas_core.artifacts import DirectoryStore\n"
        "DirectoryStore(sys.argv[1]).put('a/b', b'x' * 50_000)"
    )
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, capture_output=True, text=True, timeout=60)
    assert "StoreUnavailable: cannot write a/b" in result.stderr
    assert os.listdir(tmp_path / "a") == []


def test_read_only_and_impossible_places_say_what_to_do(tmp_path, monkeypatch):
    store = DirectoryStore(tmp_path / "w")

    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", read_only)
        with pytest.raises(EnvironmentNotReady, match="Read-only file system.*Choose a workspace"):
            store.put("a", b"")
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentNotReady):
        DirectoryStore(tmp_path / "file").put("a/b", b"")
    assert DirectoryStore(tmp_path / "file").get("a/b") is None


@pytest.mark.parametrize("reason", [errno.EPERM, errno.EOPNOTSUPP])
def test_file_systems_without_hard_links(tmp_path, monkeypatch, reason):
    def no_links(*_: object, **__: object) -> None:
        raise OSError(reason, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    store = DirectoryStore(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda i: _or_conflict(store, i), range(8)))
    assert sum(results) == 1
    assert [name for name in os.listdir(tmp_path) if name != ".lock"] == ["k"]


def _or_conflict(store: DirectoryStore, index: int) -> bool:
    try:
        store.put("k", b"%d" % index, if_absent=True, durable=False)
        return True
    except Conflict:
        return False


def test_addresses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = open_store("with space/ü")
    store.put("k", b"1")
    assert open_store(store.url).get("k").data == b"1"
    assert open_store(tmp_path / "with space" / "ü").get("k").data == b"1"
    for wrong in ("gs://bucket/x", "", "s3://", "s3://user:pw@bucket/x", "http://x/y"):
        with pytest.raises(EnvironmentNotReady) as caught:
            open_store(wrong)
        assert "pw" not in str(caught.value)
