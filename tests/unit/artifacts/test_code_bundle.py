"""What travels in a code bundle, and that one content has one digest."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from optimas_core.artifacts import Bundle, Workspace, pack_bundle, put_bundle, unpack_bundle
from optimas_core.artifacts._bundle_archive import BundleFile, archive_of, files_in, is_bundle_name
from optimas_core.errors import SpecError

IN_PROJECT = ["app/__init__.py", "app/system.py", "data/train.jsonl", "run.yaml"]
GOLDEN = "ae3fdbfb0f108e46354120c171dd1d364c32f2b764cd34bd4b5549aa72f7d17f"


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def names(bundle: Bundle) -> list[str]:
    return [name for name, _ in bundle.files]


def contents(folder: Path) -> dict[str, tuple[bytes, bool]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), bool(path.stat().st_mode & 0o100))
        for path in folder.rglob("*")
        if path.is_file()
    }


# One content, one digest


def test_the_digest_of_this_content_is_the_same_on_every_machine(project: Path) -> None:
    os.chmod(write(project, {"run.sh": b"#!/bin/sh\n"}) / "run.sh", 0o755)
    bundle = pack_bundle(project)
    assert bundle.digest == hashlib.sha256(bundle.data).hexdigest() == GOLDEN
    assert bundle.files == (("app/__init__.py", 0), ("app/system.py", 17), ("data/train.jsonl", 3), ("run.sh", 10), ("run.yaml", 25))


def test_times_rights_order_and_place_change_nothing(project: Path, tmp_path: Path) -> None:
    first = pack_bundle(project)
    other = shutil.copytree(project, tmp_path / "elsewhere" / "p")
    for name in IN_PROJECT:
        os.utime(other / name, (1, 1))
        os.chmod(other / name, 0o600)
    assert pack_bundle(other) == first
    os.chmod(other / "run.yaml", 0o700)
    assert pack_bundle(other).digest != first.digest
    os.chmod(other / "run.yaml", 0o644)
    (other / "run.yaml").rename(other / "run.yml")
    with pytest.raises(SpecError, match="holds no run.yaml"):
        pack_bundle(other)
    assert pack_bundle(other, run_file="run.yml").digest != first.digest


def test_it_is_the_tar_that_other_programs_make_and_read(project: Path, tmp_path: Path) -> None:
    long = f"{'d' * 90}/{'e' * 60}/{'f' * 100}"
    write(project, {long: b"long", "Ünïcode ☃.txt": b"u", "x" * 100: b"100", "full.bin": bytes(1024)})
    os.chmod(write(project, {"run.sh": b"#!/bin/sh\n"}) / "run.sh", 0o755)
    data = pack_bundle(project).data
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT, encoding="utf-8") as tar:
        for name in sorted(contents(project), key=str.encode):
            info = tarfile.TarInfo(name)
            info.size, info.mode = (project / name).stat().st_size, 0o755 if name == "run.sh" else 0o644
            with (project / name).open("rb") as file:
                tar.addfile(info, file)
    assert buffer.getvalue().rstrip(b"\0") == data.rstrip(b"\0") and data.endswith(bytes(1024))
    (tmp_path / "b.tar").write_bytes(data)
    (tmp_path / "out").mkdir()
    subprocess.run(
        ["tar", "-xf", str(tmp_path / "b.tar"), "-C", str(tmp_path / "out")], check=True, env={**os.environ, "LC_ALL": "C.UTF-8"}
    )
    assert contents(tmp_path / "out") == contents(project)


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("n" * 100, True),
        ("n" * 101, False),
        ("é" * 50, True),
        ("é" * 51, False),
        ("p" * 155 + "/" + "n" * 100, True),
        ("p" * 156 + "/n", False),
        ("p" * 155 + "/" + "n" * 101, False),
        ("p/" * 78 + "n" * 100, True),
        ("p/" * 78 + "/n", False),
        ("ab/" * 80 + "n", True),
        ("ab/" * 85 + "n", True),
        ("ab/" * 86 + "n", False),
        ("é/" * 40 + "n", True),
    ],
    ids=lambda value: str(value)[-12:],
)
def test_how_long_a_name_may_be(name: str, fits: bool) -> None:
    assert is_bundle_name(name) is fits
    if fits:
        info = tarfile.TarInfo(name)
        info.mode = 0o644
        data = archive_of([BundleFile(name, b"", False)])
        assert data[:512] == info.tobuf(tarfile.USTAR_FORMAT, "utf-8") and files_in(data)[0].name == name


NAME = st.text(st.characters(blacklist_characters="/", blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=20)
FILES = st.dictionaries(
    st.lists(NAME, min_size=1, max_size=4).map("/".join), st.tuples(st.binary(max_size=1500), st.booleans()), max_size=12
)


@settings(max_examples=60, deadline=None)
@given(files=FILES, order=st.randoms(use_true_random=False))
def test_what_is_packed_is_what_is_unpacked(files: dict[str, tuple[bytes, bool]], order) -> None:
    assume(all(is_bundle_name(name) for name in files))
    assume(not any(other.startswith(f"{name}/") for name in files for other in files))
    packed = [BundleFile(name, data, executable) for name, (data, executable) in files.items()]
    data = archive_of(packed)
    order.shuffle(packed)
    assert archive_of(packed) == data
    with tempfile.TemporaryDirectory() as place:
        workspace = Workspace.open(Path(place) / "w")
        digest = put_bundle(workspace, Bundle(hashlib.sha256(data).hexdigest(), data, ()))
        assert contents(unpack_bundle(workspace, digest, Path(place) / "out")) == files


# What travels


def test_outside_git_by_products_and_the_workspace_stay_behind(project: Path, tmp_path: Path) -> None:
    left = [
        "app/__pycache__/system.pyc",
        ".venv/x.py",
        ".cache/x",
        "venv/pyvenv.cfg",
        "venv/lib/x.py",
        "build/x.py",
        "dist/x.whl",
        "p.egg-info/PKG-INFO",
    ]
    left += ["node_modules/x.js", "sub/node_modules/x.js", "store/runs/r/spec.json", "stray.pyc"]
    kept = ["app/build/__init__.py", "app/build/steps.py", ".hidden", "store2/x"]
    write(project, dict.fromkeys([*left, *kept], b"x"))
    os.mkfifo(project / "pipe")
    bundle = pack_bundle(project, exclude=[project / "store", tmp_path, tmp_path / "elsewhere"])
    assert names(bundle) == sorted([*IN_PROJECT, *kept])


def test_in_git_tracked_and_untracked_files_travel_and_ignored_ones_do_not(project: Path, git: Callable[..., None]) -> None:
    write(project, {".gitignore": b"*.log\n/data/\n/forced.txt\n", "a.log": b"", "forced.txt": b"f", "gone.py": b"", "build/made.py": b""})
    write(project, {"app/__pycache__/system.cpython-311.pyc": b"x", "store/runs/r/spec.json": b"{}", "new name\u00e9.py": b""})
    git("add", "run.yaml", "app", "gone.py")
    git("add", "-f", "forced.txt")
    (project / "gone.py").unlink()
    expected = [".gitignore", "app/__init__.py", "app/system.py", "build/made.py", "forced.txt", "new name\u00e9.py", "run.yaml"]
    assert names(pack_bundle(project, exclude=[project / "store"])) == expected


def test_only_the_folder_of_run_yaml_travels_also_out_of_a_larger_repository(project: Path, git: Callable[..., None]) -> None:
    write(project, {"inner/run.yaml": b"", "inner/a.py": b"", ".gitignore": b"inner/b.py\n", "inner/b.py": b""})
    git("add", ".")
    assert names(pack_bundle(project / "inner")) == ["a.py", "run.yaml"]


def test_a_git_hook_s_variables_do_not_lead_to_another_repository(
    project: Path, git: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "other", {"x": b""})
    git("init", at=tmp_path / "other")
    write(project, {".gitignore": b"*.log\n", "a.log": b"", "tracked.log": b""})
    git("add", "-f", "tracked.log")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "nothing"))
    assert names(pack_bundle(project)) == sorted([*IN_PROJECT, ".gitignore", "tracked.log"])


def test_a_submodule_s_files_travel_and_one_that_is_not_checked_out_is_named(
    project: Path, git: Callable[..., None], tmp_path: Path
) -> None:
    library = write(tmp_path / "library", {"lib.py": b"1", ".gitignore": b"junk\n"})
    git("init", at=library)
    git("add", ".", at=library)
    git("commit", "-m", "x", at=library)
    git("submodule", "add", str(library), "vendor/library")
    write(project, {"vendor/library/junk": b"j"})
    assert {"vendor/library/lib.py", "vendor/library/.gitignore"} < set(names(pack_bundle(project)))
    assert "vendor/library/junk" not in names(pack_bundle(project))
    git("submodule", "deinit", "-f", "vendor/library")
    with pytest.raises(SpecError, match="submodule vendor/library .* not checked out.*git submodule update --init"):
        pack_bundle(project)


def test_links_inside_become_files_and_links_outside_are_refused(project: Path, git: Callable[..., None], tmp_path: Path) -> None:
    (project / "again.jsonl").symlink_to("data/train.jsonl")
    (project / "app" / "data").symlink_to("../data")
    bundle = pack_bundle(project)
    assert {("again.jsonl", 3), ("app/data/train.jsonl", 3)} < set(bundle.files)
    shutil.rmtree(project / ".git")
    assert pack_bundle(project) == bundle
    (tmp_path / "outside.txt").write_text("o")
    (tmp_path / "folder").mkdir()
    for target in ("../outside.txt", str(tmp_path / "folder"), "..", ".", "/etc/passwd"):
        (project / "link").symlink_to(target)
        with pytest.raises(SpecError, match="link in .* is a link that leaves the folder"):
            pack_bundle(project)
        (project / "link").unlink()
    (project / ".cache").mkdir()
    (project / ".cache" / "x").write_text("x")
    for target in ("nothing", ".cache/x", ".cache", "link"):
        (project / "link").symlink_to(target)
        with pytest.raises(SpecError, match="link in .* which does not travel"):
            pack_bundle(project)
        (project / "link").unlink()
