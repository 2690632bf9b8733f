"""A code bundle in the workspace and unpacked again: stored once, whole or not there, and never used after a change."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from optimas_core.artifacts import Bundle, Workspace, collect, pack_bundle, put_bundle, unpack_bundle
from optimas_core.artifacts._bundle_archive import MAX_BUNDLE_BYTES
from optimas_core.errors import ArtifactCorrupt, EnvironmentNotReady, SpecError

UNPACKER = """
import sys
from pathlib import Path
from optimas_core.artifacts import Workspace, unpack_bundle
print("ready", flush=True)
sys.stdin.readline()
print(unpack_bundle(Workspace.open(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "workspace")


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def planted(workspace: Workspace, data: bytes) -> str:
    """Bytes that someone put there under their true digest."""
    digest = hashlib.sha256(data).hexdigest()
    workspace.store.put(f"bundles/{digest}", data)
    return digest


def contents(folder: Path) -> dict[str, tuple[bytes, bool]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), bool(path.stat().st_mode & 0o100))
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_it_is_stored_once_under_its_digest_and_survives_gc(project: Path, workspace: Workspace) -> None:
    bundle = pack_bundle(project)
    barrier = threading.Barrier(8)

    def put(_: int) -> str:
        barrier.wait()
        return put_bundle(workspace, bundle)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(put, range(8))) == {bundle.digest}
    assert list(workspace.store.list()) == [f"bundles/{bundle.digest}"]
    assert collect(workspace, min_age_s=0, calls=True, now_s=4e9) == []
    assert workspace.store.get(f"bundles/{bundle.digest}").data == bundle.data
    with pytest.raises(ValueError, match="digest of the bundle"):
        put_bundle(workspace, Bundle("0" * 64, bundle.data, bundle.files))


def test_a_damaged_one_is_found_and_replaced_by_the_next_submit(project: Path, workspace: Workspace, tmp_path: Path) -> None:
    bundle = pack_bundle(project)
    workspace.store.put(f"bundles/{bundle.digest}", bundle.data[:-1])
    with pytest.raises(ArtifactCorrupt, match="has SHA-256"):
        unpack_bundle(workspace, bundle.digest, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    put_bundle(workspace, bundle)
    assert unpack_bundle(workspace, bundle.digest, tmp_path / "out").is_dir()


@pytest.mark.parametrize("digest", ["", "ab" * 16, "AB" * 32, "../" + "a" * 61, "a" * 64 + "\n", "a" * 65])
def test_what_is_no_digest_is_refused(workspace: Workspace, tmp_path: Path, digest: str) -> None:
    with pytest.raises(SpecError, match="is not the digest of a code bundle"):
        unpack_bundle(workspace, digest, tmp_path / "out")


def test_a_bundle_that_is_not_there_or_too_large_is_corrupt(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(ArtifactCorrupt, match=f"holds no bundles/{'a' * 64}. Submit the run again"):
        unpack_bundle(workspace, "a" * 64, tmp_path / "out")
    with pytest.raises(ArtifactCorrupt, match="at most 33554432 are read"):
        unpack_bundle(workspace, planted(workspace, bytes(MAX_BUNDLE_BYTES + 1)), tmp_path / "out")


# Unpacked


def test_the_unpacked_folder_is_imported_from(project: Path, workspace: Workspace, tmp_path: Path) -> None:
    folder = unpack_bundle(workspace, put_bundle(workspace, pack_bundle(project)), tmp_path / "out")
    code = "import app.system; print(app.system.WHERE)"
    for _ in range(2):  # the second time over the bytecode of the first
        done = subprocess.run([sys.executable, "-c", code], cwd=folder, env={}, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == str(folder / "app" / "system.py")
        assert unpack_bundle(workspace, folder.name, tmp_path / "out") == folder
    assert (folder / "app" / "__pycache__").is_dir() and os.listdir(tmp_path / "out") == [folder.name]


CHANGES: dict[str, Callable[[Path], object]] = {
    "a changed file": lambda folder: (folder / "run.yaml").write_bytes((folder / "run.yaml").read_bytes().upper()),
    "a longer file": lambda folder: (folder / "run.yaml").write_bytes(b"x" * 100),
    "a missing file": lambda folder: (folder / "run.yaml").unlink(),
    "a module that shadows another": lambda folder: (folder / "json.py").write_text("x"),
    "a link in place of a file": lambda folder: (
        (folder / "run.yaml").rename(folder.parent / "r"),
        (folder / "run.yaml").symlink_to("../r"),
    ),
    "a link in place of a folder": lambda folder: ((folder / "app").rename(folder.parent / "a"), (folder / "app").symlink_to("../a")),
    "other rights": lambda folder: (folder / "run.yaml").chmod(0o755),
    "half of it": lambda folder: shutil.rmtree(folder / "app"),
    "a file in its place": lambda folder: (shutil.rmtree(folder), folder.write_text("x")),
    "a link in its place": lambda folder: (folder.rename(folder.parent / "moved"), folder.symlink_to("moved")),
    "an empty folder": lambda folder: (shutil.rmtree(folder), folder.mkdir()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_folder_that_was_changed_is_not_used(project: Path, workspace: Workspace, tmp_path: Path, change: str) -> None:
    digest = put_bundle(workspace, pack_bundle(project))
    folder = unpack_bundle(workspace, digest, tmp_path / "out")
    CHANGES[change](folder)
    again = unpack_bundle(workspace, digest, tmp_path / "out")
    assert contents(again) == contents(project) and not again.is_symlink() and not (again / "run.yaml").is_symlink()
    assert again.name.startswith(digest) and again.parent == folder.parent
    assert not [name for name in os.listdir(tmp_path / "out") if name.startswith(".tmp-")]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to someone else")
def test_a_folder_of_another_account_is_not_used(project: Path, workspace: Workspace, tmp_path: Path) -> None:
    digest = put_bundle(workspace, pack_bundle(project))
    folder = unpack_bundle(workspace, digest, tmp_path / "out")
    os.chown(folder, 12345, -1)
    again = unpack_bundle(workspace, digest, tmp_path / "out")
    assert again != folder and contents(again) == contents(project)


def test_sixteen_at_once_get_whole_folders(project: Path, workspace: Workspace, tmp_path: Path) -> None:
    write(project, {f"many/{index}.py": b"x" * index for index in range(200)})
    digest = put_bundle(workspace, pack_bundle(project))
    command = [sys.executable, "-c", UNPACKER, str(tmp_path / "workspace"), digest, str(tmp_path / "out")]
    started = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.stdout.readline() for process in started] == ["ready\n"] * 4
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    places = {process.communicate(timeout=60)[0].strip() for process in started}
    barrier = threading.Barrier(12)

    def unpack(_: int) -> str:
        barrier.wait()
        return str(unpack_bundle(workspace, digest, tmp_path / "out" / "second"))

    with ThreadPoolExecutor(12) as pool:
        second = set(pool.map(unpack, range(12)))
    assert len(places) == len(second) == 1
    for place in places | second:
        assert contents(Path(place)) == contents(project)
    assert sorted(os.listdir(tmp_path / "out")) == sorted([digest, "second"]) and os.listdir(tmp_path / "out" / "second") == [digest]


def test_a_process_killed_before_the_folder_has_its_name_leaves_nothing_that_is_used(
    project: Path, workspace: Workspace, tmp_path: Path
) -> None:
    digest = put_bundle(workspace, pack_bundle(project))
    done = subprocess.run(
        [sys.executable, "-c", UNPACKER, str(tmp_path / "workspace"), digest, str(tmp_path / "out")],
        input=b"go\n",
        env={"OPTIMAS_CRASH_AT": "bundle-folder.unpublished"},
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL
    assert [name[:5] for name in os.listdir(tmp_path / "out")] == [".tmp-"]
    assert contents(unpack_bundle(workspace, digest, tmp_path / "out")) == contents(project)
    assert len(os.listdir(tmp_path / "out")) == 2, "it may belong to a process that is still at it"
    for name in os.listdir(tmp_path / "out"):
        os.utime(tmp_path / "out" / name, (1.0, 1.0))
    (tmp_path / "out" / digest / "system.py").write_text("changed")
    unpack_bundle(workspace, digest, tmp_path / "out")
    assert not [name for name in os.listdir(tmp_path / "out") if name.startswith(".tmp-")], "an hour later nobody is"


def test_a_folder_that_cannot_be_written_is_one_sentence(project: Path, workspace: Workspace, tmp_path: Path) -> None:
    digest = put_bundle(workspace, pack_bundle(project))
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/optimas")):
        with pytest.raises(EnvironmentNotReady, match="cannot be unpacked into .* emptyDir"):
            unpack_bundle(workspace, digest, place)
