"""Layout, frozen spec, append-only states, configurations."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimas_core import artifacts
from optimas_core.artifacts import Conflict, DirectoryStore, RunWorkspace, Workspace
from optimas_core.errors import ArtifactCorrupt, LeaseLost, SpecError, StoreUnavailable


@pytest.fixture
def run(tmp_path) -> RunWorkspace:
    return Workspace.open(tmp_path).run("r1")


def test_every_public_name_exists():
    assert sorted(artifacts.__all__, key=str.lower) == sorted(set(artifacts.__all__), key=str.lower)
    assert all(hasattr(artifacts, name) for name in artifacts.__all__)


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "a b", "ü", "-x", "a" * 101, "a\n", "a\0"])
def test_impossible_names(tmp_path, name):
    workspace = Workspace.open(tmp_path)
    for make in (workspace.run, workspace.promoted):
        with pytest.raises(SpecError, match="cannot be used as a name"):
            make(name)


def test_a_spec_is_frozen(tmp_path):
    workspace = Workspace.open(tmp_path)
    run = workspace.run("r1")
    assert run.read_spec() is None and workspace.run_ids() == []
    run.freeze_spec({"a": 1, "b": [1.5, None]})
    assert run.freeze_spec({"b": [1.5, None], "a": 1}) == {"a": 1, "b": [1.5, None]}
    with pytest.raises(Conflict, match="another spec"):
        run.freeze_spec({"a": 2})
    assert run.read_spec() == {"a": 1, "b": [1.5, None]}
    workspace.run("r0").freeze_spec({})
    assert workspace.run_ids() == ["r0", "r1"]


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(st.text(st.characters(), max_size=5), _json, max_size=4))
def test_states_and_configurations_come_back_as_written(tmp_path_factory, data):
    class Unflushed(DirectoryStore):
        def put(self, key, data, **condition):
            return super().put(key, data, **{**condition, "durable": False})

    run = RunWorkspace(Unflushed(tmp_path_factory.mktemp("w")), "r")
    run.append_state(0, data)
    assert run.read_state(0).data == data
    assert run.read_configuration(run.put_configuration(data)) == data


def test_states_are_append_only_and_without_gaps(run):
    assert run.latest_state() is None
    for index in range(3):
        run.append_state(index, {"n": index})
        assert run.latest_state().index == index
    with pytest.raises(Conflict):
        run.append_state(2, {"n": 99})
    with pytest.raises(Conflict, match="state 3 is missing"):
        run.append_state(4, {})
    assert [state.data["n"] for state in run.states()] == [0, 1, 2]


def test_of_8_appenders_one_wins(run):
    barrier = threading.Barrier(8)

    def append(writer: int) -> bool:
        barrier.wait()
        try:
            run.append_state(0, {"writer": writer})
            return True
        except Conflict:
            return False

    with ThreadPoolExecutor(8) as pool:
        wins = list(pool.map(append, range(8)))
    assert sum(wins) == 1
    assert run.latest_state().data == {"writer": wins.index(True)}


@pytest.mark.parametrize("hint", [b"0", b"2", b"7", b"999999999999", b"-1", b"", b"junk", b"\xff", "²".encode(), None])
def test_the_head_file_is_only_a_hint(run, hint):
    for index in range(30):
        run.append_state(index, {"n": index})
    if hint is None:
        run.store.delete(f"{run.prefix}/state/HEAD")
    else:
        run.store.put(f"{run.prefix}/state/HEAD", hint)
    assert run.latest_state().index == 29


def test_an_append_survives_a_store_that_cannot_write_the_hint(tmp_path):
    class NoHint(DirectoryStore):
        def put(self, key, data, **condition):
            if key.endswith("HEAD"):
                raise StoreUnavailable("gone")
            return super().put(key, data, **condition)

    run = RunWorkspace(NoHint(tmp_path), "r1")
    for index in range(3):
        run.append_state(index, {})
    assert run.latest_state().index == 2


def test_damaged_states_are_named(run):
    run.append_state(0, {"n": 1})
    key = f"{run.prefix}/state/000000.json"
    good = run.store.get(key).data
    for bad in (
        b"",
        b"{",
        b"[]",
        good.replace(b'"n":1', b'"n":2'),
        good.replace(b'"index":0', b'"index":1'),
        b"[" * 5000,
    ):
        run.store.put(key, bad)
        with pytest.raises(ArtifactCorrupt, match=r"state/000000\.json"):
            run.latest_state()


def test_an_older_epoch_cannot_append(run):
    run.append_state(0, {}, epoch=2)
    with pytest.raises(LeaseLost):
        run.append_state(1, {}, epoch=1)
    with pytest.raises(LeaseLost):
        run.append_state(0, {"other": 1}, epoch=1)
    run.append_state(1, {}, epoch=3)


def test_the_holders_own_repeated_append_is_fine(run):
    """Its first try was written, but the answer was lost."""
    run.append_state(0, {"n": 1}, epoch=1)
    run.append_state(0, {"n": 1}, epoch=1)
    with pytest.raises(Conflict):
        run.append_state(0, {"n": 2}, epoch=1)


def test_configurations_are_checked_against_their_name(run):
    name = run.put_configuration({"k": 5})
    assert run.put_configuration({"k": 5}) == name and run.read_configuration("0" * 32) is None
    run.store.put(f"{run.prefix}/configurations/{name}.json", b'{"k":6}')
    with pytest.raises(ArtifactCorrupt, match=name):
        run.read_configuration(name)


def test_plain_files(run):
    uri = run.write_file("report/report.html", b"<p>")
    run.write_file("report/report.html", b"<p>2")
    assert uri.endswith("runs/r1/report/report.html") and run.read_file("report/report.html") == b"<p>2"
    assert run.read_file("report/none") is None
    for wrong in ("spec.json", "state/000000.json", "ledger/000000.json", "report/../spec.json", "lrf/abcdef01/x"):
        with pytest.raises(ValueError):
            run.write_file(wrong, b"")
    assert run.read_file("../r2/spec.json") is None
