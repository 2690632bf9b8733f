"""Nothing of a stranger's archive gets onto the disk: it is ours to the byte, or refused before the first file is written."""

from __future__ import annotations

import hashlib
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from optimas_core.artifacts import Workspace, unpack_bundle
from optimas_core.artifacts._bundle_archive import MAX_BUNDLE_FILES, BundleFile, archive_of, files_in, is_bundle_name
from optimas_core.errors import ArtifactCorrupt, OptimasError


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "workspace")


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


def tar(*members: tuple[str, bytes], end: bytes = bytes(1024), **changes: object) -> bytes:
    """Members in our form but for `changes` to the last one; in the order given."""
    out = b""
    for name, data in members:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), 0o644
        if (name, data) == members[-1]:
            for key, value in changes.items():
                setattr(info, key, value)
        out += info.tobuf(tarfile.USTAR_FORMAT, "utf-8") + data + bytes(-len(data) % 512)
    return out + end


GOOD = ("run.yaml", b"x: 1\n")
HOSTILE = {
    "climbs": tar(("../evil", b"1"), GOOD),
    "climbs inside": tar(("a/../../evil", b"1"), GOOD),
    "absolute": tar(("/tmp/optimas-evil", b"1"), GOOD),
    "a dot": tar(("./run.yaml", b"1")),
    "an empty part": tar(("a//b", b"1")),
    "a line break": tar(("a\nb", b"1")),
    "a folder's name": tar(("a/", b"1")),
    "no name": tar(("", b"1")),
    "twice": tar(GOOD, GOOD),
    "twice, another content": tar(GOOD, ("run.yaml", b"y: 2\n")),
    "a file under a file": tar(("a", b"1"), ("a/b", b"1")),
    "out of order": tar(("b", b"1"), ("a", b"1")),
    "a symbolic link": tar(GOOD, ("z", b""), type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "a hard link": tar(GOOD, ("z", b""), type=tarfile.LNKTYPE, linkname="run.yaml"),
    "a device": tar(GOOD, ("z", b""), type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    "a pipe": tar(GOOD, ("z", b""), type=tarfile.FIFOTYPE),
    "a folder": tar(GOOD, ("z", b""), type=tarfile.DIRTYPE),
    "a sparse file": tar(GOOD, ("z", b""), type=tarfile.GNUTYPE_SPARSE),
    "a long-name record": tar(GOOD, ("././@LongLink", b"z" * 200), type=tarfile.GNUTYPE_LONGNAME),
    "a pax record": tar(GOOD, ("z", b"20 path=../../evil\n"), type=tarfile.XHDTYPE),
    "set-user-id": tar(GOOD, mode=0o4755),
    "an owner": tar(GOOD, uid=1000),
    "a time": tar(GOOD, mtime=1),
    "a bomb's size": tar(GOOD, size=0o77777777777),
    "a size in base 256": tar(GOOD).replace(b"00000000005\0", b"\x80" + bytes(10) + b"\x05"),
    "a negative size": tar(GOOD).replace(b"00000000005\0", b"-0000001000\0"),
    "a wrong check sum": tar(GOOD).replace(b"0000644", b"0000444"),
    "padding that holds something": tar(GOOD)[:600] + b"evil" + tar(GOOD)[604:],
    "something behind the end": tar(GOOD) + b"evil" + bytes(508),
    "a second archive": tar(GOOD) + tar(("z", b"1")),
    "no end": tar(GOOD, end=b""),
    "half an end": tar(GOOD, end=bytes(512)),
    "a longer end": tar(GOOD, end=bytes(10240)),
    "cut in a header": tar(GOOD)[:300],
    "cut in a file": tar(GOOD)[:514],
    "cut in the padding": tar(GOOD)[:700],
    "no tar": b"#!/bin/sh\necho evil\n",
    "gzip": b"\x1f\x8b\x08" + bytes(100),
    "empty": b"",
    "too many": tar(*((f"{index:05d}", b"") for index in range(MAX_BUNDLE_FILES + 1))),
    "too many folders": tar(*(("/".join([f"{index:02d}", *"a" * 60, "f"]), b"") for index in range(90))),
}


@pytest.mark.parametrize("trick", HOSTILE)
def test_a_stranger_s_archive_is_refused_whole(workspace: Workspace, tmp_path: Path, trick: str) -> None:
    digest = planted(workspace, HOSTILE[trick])
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(ArtifactCorrupt, match="the code bundle ") as caught:
        unpack_bundle(workspace, digest, tmp_path / "out")
    assert len(str(caught.value)) < 400
    assert sorted(os.listdir(tmp_path)) == before and not os.path.lexists("/tmp/optimas-evil")


def test_the_tricks_differ_from_a_good_archive_by_the_trick_alone(workspace: Workspace, tmp_path: Path) -> None:
    assert contents(unpack_bundle(workspace, planted(workspace, tar(GOOD)), tmp_path / "out")) == {"run.yaml": (b"x: 1\n", False)}
    assert files_in(tar(("a", b"1"), ("b/c", b"2"), mode=0o755)) == (BundleFile("a", b"1", False), BundleFile("b/c", b"2", True))


ORIGINAL = tar(("a/b.py", b"x" * 700), GOOD)


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, len(ORIGINAL) - 1), put=st.binary(max_size=40), cut=st.integers(0, 600))
@example(at=0, put=b"", cut=0)
def test_any_other_bytes_are_refused_or_are_an_archive_of_their_own(at: int, put: bytes, cut: int) -> None:
    data = ORIGINAL[:at] + put + ORIGINAL[at + cut :]
    try:
        files = files_in(data)
    except ArtifactCorrupt:
        return
    assert archive_of(files) == data and all(is_bundle_name(file.name) for file in files)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=3000))
def test_noise_gives_one_typed_error(data: bytes) -> None:
    with pytest.raises(OptimasError):
        files_in(data)


@given(st.text(max_size=300))
@example("..")
@example("a/../b")
@example("\ud800")
def test_a_name_that_may_travel_stays_below_its_folder(name: str) -> None:
    if is_bundle_name(name):
        assert os.path.normpath(os.path.join("/root", name)) == f"/root/{name}" and len(name.encode()) <= 256
