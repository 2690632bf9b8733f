"""A code bundle over a real S3 server: stored once by many at once, replaced when damaged, and a system that runs out of it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from optimas_core.artifacts import Workspace, collect, pack_bundle, put_bundle, unpack_bundle
from optimas_core.artifacts._bundle_archive import MAX_BUNDLE_BYTES
from optimas_core.errors import ArtifactCorrupt, StoreUnavailable

QUICKSTART = Path(__file__).resolve().parents[3] / "examples" / "quickstart"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project" / "app").mkdir(parents=True)
    (tmp_path / "project" / "run.yaml").write_text("system: app.system:build\n")
    (tmp_path / "project" / "app" / "system.py").write_text("ANSWER = 42\n")
    return tmp_path / "project"


def test_eight_submits_at_once_store_one_object_and_gc_leaves_it(s3_url: str, project: Path, tmp_path: Path) -> None:
    bundle = pack_bundle(project)
    barrier = threading.Barrier(8)

    def submit(_: int) -> str:
        workspace = Workspace.open(s3_url)
        barrier.wait()
        return put_bundle(workspace, bundle)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(submit, range(8))) == {bundle.digest}
    workspace = Workspace.open(s3_url)
    assert list(workspace.store.list()) == [f"bundles/{bundle.digest}"]
    assert collect(workspace, min_age_s=0, calls=True, now_s=4e9) == []
    folder = unpack_bundle(workspace, bundle.digest, tmp_path / "out")
    assert (folder / "app" / "system.py").read_text() == "ANSWER = 42\n"
    assert unpack_bundle(workspace, bundle.digest, tmp_path / "out") == folder


def test_what_someone_else_put_there_is_never_unpacked(s3_url: str, project: Path, tmp_path: Path) -> None:
    workspace, bundle = Workspace.open(s3_url), pack_bundle(project)
    (project / "app" / "system.py").write_text("ANSWER = 'evil'\n")
    key = f"bundles/{bundle.digest}"
    for data in (pack_bundle(project).data, bundle.data[:-512], b""):
        workspace.store.put(key, data)
        with pytest.raises(ArtifactCorrupt, match=f"{key} in s3://.* has SHA-256 {hashlib.sha256(data).hexdigest()}"):
            unpack_bundle(workspace, bundle.digest, tmp_path / "out")
    put_bundle(workspace, bundle)
    assert workspace.store.get(key).data == bundle.data
    workspace.store.put(key, bytes(MAX_BUNDLE_BYTES + 1))
    with pytest.raises(ArtifactCorrupt, match="at most 33554432 are read"):
        unpack_bundle(workspace, bundle.digest, tmp_path / "out")
    workspace.store.delete(key)
    with pytest.raises(ArtifactCorrupt, match="holds no bundles/"):
        unpack_bundle(workspace, bundle.digest, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_store_that_is_away_is_worth_another_try(s3_url: str, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = pack_bundle(project)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    for use in (lambda away: put_bundle(away, bundle), lambda away: unpack_bundle(away, bundle.digest, tmp_path / "out")):
        with pytest.raises(StoreUnavailable):
            use(Workspace.open(s3_url))


def test_the_quickstart_is_the_same_run_here_and_unpacked(s3_url: str, tmp_path: Path) -> None:
    """A pod that loads the bundle must come to the identity that the laptop came to, or it would not find the run."""
    workspace = Workspace.open(s3_url)
    digest = put_bundle(workspace, pack_bundle(QUICKSTART, exclude=[QUICKSTART / "workspace"]))
    folder = unpack_bundle(workspace, digest, tmp_path / "out")
    code = (
        "import sys; from pathlib import Path; from optimas_core.stages._open import load_project\n"
        "project = load_project(Path(sys.argv[1]) / 'run.yaml'); print(project.identity, project.module.__file__)"
    )
    here, there = (
        subprocess.run([sys.executable, "-c", code, str(place)], capture_output=True, text=True, check=True, cwd=tmp_path).stdout.split()
        for place in (QUICKSTART, folder)
    )
    assert here[0] == there[0] and there[1] == str(folder / "system.py") != here[1]
