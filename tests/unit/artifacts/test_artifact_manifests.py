"""Manifest last: a crash anywhere leaves nothing or everything; every read is checked."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimas_core.artifacts import DirectoryStore, RunWorkspace, Workspace
from optimas_core.errors import ArtifactCorrupt

DIGEST = "ab" * 16
FILES = {"part-0.parquet": b"one", "part-1.parquet": b"two" * 1000, "config.json": b"{}"}
FACTS = {
    "inputs": {"data": "cd" * 16},
    "producer": "code",
    "created_at": "2025-01-01T00:00:00Z",
    "schemas": {"rollouts": 1},
}


class Killed(BaseException):
    """As SIGKILL: no handler of ours may see it as an error to mend."""


class Unflushed(DirectoryStore):
    """Saves the flushes to disk where a hundred examples are written."""

    def put(self, key, data, **condition):
        return super().put(key, data, **{**condition, "durable": False})


class DiesAfter(DirectoryStore):
    def __init__(self, path, puts: int) -> None:
        super().__init__(path)
        self.left = puts

    def put(self, key, data, **condition):
        if self.left == 0:
            raise Killed
        self.left -= 1
        return super().put(key, data, **condition)


def _tree(path) -> dict[str, bytes]:
    store = DirectoryStore(path)
    return {key: store.get(key).data for key in store.list()}


@pytest.mark.parametrize("puts", range(5))
def test_killed_after_any_write_and_run_again_gives_the_same_bytes(tmp_path, puts):
    Workspace.open(tmp_path / "whole").run("r").commit_artifact("lrf", DIGEST, FILES, **FACTS)
    killed = RunWorkspace(DiesAfter(tmp_path / "killed", puts), "r")
    if puts < 4:
        with pytest.raises(Killed):
            killed.commit_artifact("lrf", DIGEST, FILES, **FACTS)
        assert Workspace.open(tmp_path / "killed").run("r").open_artifact("lrf", DIGEST) is None
    run = Workspace.open(tmp_path / "killed").run("r")
    artifact = run.commit_artifact("lrf", DIGEST, FILES, **FACTS)
    artifact.verify()
    assert _tree(tmp_path / "killed") == _tree(tmp_path / "whole")


def test_a_dead_attempt_with_other_bytes_is_not_overwritten_and_not_used(tmp_path):
    run = RunWorkspace(DiesAfter(tmp_path, 3), "r")
    with pytest.raises(Killed):
        run.commit_artifact("lrf", DIGEST, {name: b"other" for name in FILES}, **FACTS)
    run = Workspace.open(tmp_path).run("r")
    artifact = run.commit_artifact("lrf", DIGEST, FILES, **FACTS)
    assert {name: artifact.read(name) for name in artifact.names} == FILES
    assert run.store.get(f"{artifact.folder}/config.json").data == b"other"


def test_slow_first_writer_cannot_damage_what_a_second_one_committed(tmp_path):
    """Two attempts of one pod with different bytes, interleaved in the worst order."""
    store = DirectoryStore(tmp_path)
    inside = []

    class Interrupted(DirectoryStore):
        def put(self, key, data, **condition):
            if key.endswith("manifest.json") and not inside:
                inside.append(1)
                RunWorkspace(store, "r").commit_artifact("lrf", DIGEST, FILES, **FACTS)
            return super().put(key, data, **condition)

    slow = RunWorkspace(Interrupted(tmp_path), "r")
    with pytest.raises(ArtifactCorrupt, match="committed already with other content"):
        slow.commit_artifact("lrf", DIGEST, {**FILES, "config.json": b"mine"}, **FACTS)
    artifact = RunWorkspace(store, "r").open_artifact("lrf", DIGEST)
    assert {name: artifact.read(name) for name in artifact.names} == FILES


def test_committing_again_is_fine_and_other_content_is_not(tmp_path):
    run = Workspace.open(tmp_path).run("r")
    first = run.commit_artifact("lrf", DIGEST, FILES, **FACTS)
    assert run.commit_artifact("lrf", DIGEST, FILES, **{**FACTS, "created_at": "later"}).manifest == first.manifest
    for files, facts in (
        ({**FILES, "config.json": b"[]"}, FACTS),
        ({**FILES, "more": b""}, FACTS),
        (FILES, {**FACTS, "inputs": {}}),
        (FILES, {**FACTS, "schemas": {"rollouts": 2}}),
    ):
        with pytest.raises(ArtifactCorrupt, match="other content"):
            run.commit_artifact("lrf", DIGEST, files, **facts)
    first.verify()


def test_8_writers_at_once(tmp_path):
    run = Workspace.open(tmp_path).run("r")
    barrier = threading.Barrier(8)

    def commit(_: int):
        barrier.wait()
        return run.commit_artifact("lrf", DIGEST, FILES, **FACTS)

    with ThreadPoolExecutor(8) as pool:
        manifests = [artifact.manifest for artifact in pool.map(commit, range(8))]
    assert all(manifest == manifests[0] for manifest in manifests)
    run.open_artifact("lrf", DIGEST).verify()


@settings(deadline=None)
@given(st.sampled_from(sorted([*FILES, "manifest.json"])), st.data())
def test_any_flipped_bit_or_cut_is_noticed(tmp_path_factory, name, data):
    run = RunWorkspace(Unflushed(tmp_path_factory.mktemp("w")), "r")
    folder = run.commit_artifact("lrf", DIGEST, FILES, **FACTS).folder
    good = run.store.get(f"{folder}/{name}").data
    if data.draw(st.booleans()):
        position, bit = data.draw(st.integers(0, len(good) * 8 - 1).map(lambda n: divmod(n, 8)))
        bad = good[:position] + bytes([good[position] ^ (1 << bit)]) + good[position + 1 :]
    else:
        bad = good[: data.draw(st.integers(0, len(good) - 1))]
    run.store.put(f"{folder}/{name}", bad)
    try:
        artifact = run.open_artifact("lrf", DIGEST)
        artifact.verify()
    except ArtifactCorrupt as error:
        assert name in str(error)
    else:  # only white space between the manifest's fields may change without a meaning
        assert name == "manifest.json"
        assert {file: artifact.read(file) for file in artifact.names} == FILES


def test_what_is_wrong_is_said(tmp_path):
    run = Workspace.open(tmp_path).run("r")
    artifact = run.commit_artifact("lrf", DIGEST, FILES, **FACTS)
    with pytest.raises(KeyError, match=r"config\.json"):
        artifact.read("absent")
    run.store.put(f"{artifact.folder}/config.json", b"[]")
    with pytest.raises(ArtifactCorrupt, match=r"config\.json has SHA-256"):
        artifact.read("config.json")
    run.store.put(f"{artifact.folder}/config.json", b"longer")
    with pytest.raises(ArtifactCorrupt, match="6 bytes where its manifest says 2"):
        artifact.read("config.json")
    run.store.delete(f"{artifact.folder}/config.json")
    with pytest.raises(ArtifactCorrupt, match="is not there"):
        artifact.read("config.json")


def test_a_manifest_moved_to_another_name_is_refused(tmp_path):
    run = Workspace.open(tmp_path).run("r")
    folder = run.commit_artifact("lrf", DIGEST, FILES, **FACTS).folder
    run.store.put(f"{run.prefix}/lrf/{'00' * 16}/manifest.json", run.store.get(f"{folder}/manifest.json").data)
    with pytest.raises(ArtifactCorrupt, match="belongs to"):
        run.open_artifact("lrf", "00" * 16)


def test_local_path_materializes_and_mends(tmp_path):
    run = Workspace.open(tmp_path / "w").run("r")
    artifact = run.commit_artifact("lrf", DIGEST, {**FILES, "sub/x.bin": b"x"}, **FACTS)
    folder = artifact.local_path(tmp_path / "cache")
    assert (folder / "sub" / "x.bin").read_bytes() == b"x"
    (folder / "config.json").write_bytes(b"[]")
    kept = (folder / "part-0.parquet").stat().st_mtime_ns
    assert artifact.local_path(tmp_path / "cache") == folder
    assert (folder / "config.json").read_bytes() == b"{}" and (folder / "part-0.parquet").stat().st_mtime_ns == kept
    assert not [path for path in folder.rglob(".*")]


def test_impossible_names_are_refused(tmp_path):
    run = Workspace.open(tmp_path).run("r")
    for kind, digest, files in (
        ("state", DIGEST, FILES),
        ("../x", DIGEST, FILES),
        ("lrf", "../../etc", FILES),
        ("lrf", "AB" * 16, FILES),
        ("lrf", DIGEST, {"../x": b""}),
        ("lrf", DIGEST, {"manifest.json": b""}),
        ("lrf", DIGEST, {}),
    ):
        with pytest.raises(ValueError):
            run.commit_artifact(kind, digest, files, **FACTS)
