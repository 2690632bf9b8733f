"""A system's own code on its way to a pod: packed here, kept in the workspace under its digest, unpacked and checked there.

    bundle = pack_bundle(folder_of_run_yaml, exclude=[local_workspace])
    digest = put_bundle(workspace, bundle)                        bundles/<digest>, written once
    folder = unpack_bundle(workspace, digest, writable_folder)    what is imported is what the digest names

The digest is all 64 characters of the SHA-256: elsewhere half of it names what we computed, here it is what stands between a pod and code
that someone else put into the bucket.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from optimas_core.artifacts._bundle_archive import (
    MAX_BUNDLE_BYTES,
    BundleFile,
    archive_bytes,
    archive_of,
    files_in,
    folders_of,
)
from optimas_core.artifacts._bundle_files import check_number, files_of
from optimas_core.artifacts._bundle_secrets import secret_content, secret_name
from optimas_core.artifacts._store import Conflict
from optimas_core.artifacts._workspace import Workspace
from optimas_core.crash_points import crash_point
from optimas_core.errors import ArtifactCorrupt, EnvironmentNotReady, SpecError

_DIGEST = re.compile(r"[0-9a-f]{64}")
_TEMPORARY = ".tmp-"
_LEFT_BEHIND_S = 3600.0
_LISTED = 3
_KEEP_IT = "Move it out of the folder, or leave it untracked and ignored in git; keys reach a pod through a secret of the cluster."


@dataclass(frozen=True, slots=True)
class Bundle:
    """A packed project: `digest` is the SHA-256 of `data`; `files` are (name, bytes), in the order of their names."""

    digest: str
    data: bytes
    files: tuple[tuple[str, int], ...]


def pack_bundle(directory: Path, *, exclude: Sequence[Path] = (), run_file: str = "run.yaml") -> Bundle:
    """Pack a project's folder; equal files give an equal digest on any machine, at any time.

    `exclude` are folders that never travel (the local workspace); `run_file` must be among the files.

    Raises:
        SpecError: no such folder, no `run_file` in it, a file that looks like a secret, too many or too large files, a link that leaves it.
        EnvironmentNotReady: git cannot say what it tracks.
    """
    root = Path(os.path.realpath(directory))
    if not root.is_dir():
        raise SpecError(f"{directory} is no folder.", remedy="Give the folder of run.yaml.")
    paths = files_of(root, exclude)
    if run_file not in paths:
        there = (root / run_file).exists()
        raise SpecError(
            f"{root} {f'holds {run_file}, but git ignores it' if there else f'holds no {run_file}'}.",
            remedy=f"Take {run_file} out of .gitignore, or add it with `git add -f`." if there else "Give the folder of run.yaml.",
        )
    real = {name: os.path.relpath(path, root) for name, path in paths.items()}
    _refuse_secrets(root, [(name, "its name") for name in sorted(paths) if secret_name(name) or secret_name(real[name])])
    check_number(root, {folder for name in paths for folder in folders_of(name)})
    _check_size(root, {name: _size(root, name, path) for name, path in paths.items()})
    files = [_read(root, name, path) for name, path in sorted(paths.items(), key=lambda item: item[0].encode())]
    _check_size(root, {file.name: len(file.data) for file in files})  # a file may have grown since
    _refuse_secrets(root, [(file.name, why) for file in files if (why := secret_content(file.data))])
    data = archive_of(files)
    return Bundle(_sha256(data), data, tuple((file.name, len(file.data)) for file in files))


def put_bundle(workspace: Workspace, bundle: Bundle) -> str:
    """Keep a bundle in the workspace and return its digest. Putting it again, or twice at once, is fine; one that was damaged there is
    replaced.

    Raises:
        ValueError: the digest is not that of the data.
    """
    if _sha256(bundle.data) != bundle.digest:
        raise ValueError(f"the digest of the bundle is not {bundle.digest[:80]!r}")
    key = _key(bundle.digest)
    try:
        workspace.store.put(key, bundle.data, if_absent=True)
    except Conflict:
        there = workspace.store.get(key, max_bytes=MAX_BUNDLE_BYTES)
        if there is not None and there.data != bundle.data:
            with contextlib.suppress(Conflict):  # another process is at the same; whoever unpacks checks the digest
                workspace.store.put(key, bundle.data, if_match=there.etag)
    return bundle.digest


def unpack_bundle(workspace: Workspace, digest: str, directory: Path) -> Path:
    """The folder, below the writable `directory`, that holds exactly the files of a bundle; returns its real path.

    A folder of that digest that is there already is used again if no file in it was changed, removed or added (bytecode aside);
    otherwise the files go into a new one beside it. A folder gets its name when it is whole: a process killed meanwhile leaves only a
    `.tmp-…` behind, which one that unpacks an hour later removes; of two at once either may win.

    Raises:
        SpecError: `digest` is not one.
        ArtifactCorrupt: there is no such bundle, its bytes have another digest, or it is not what packing makes.
        EnvironmentNotReady: `directory` cannot be written to.
    """
    key = _key(digest)
    blob = workspace.store.get(key, max_bytes=MAX_BUNDLE_BYTES)
    if blob is None:
        raise ArtifactCorrupt(f"{workspace.url} holds no {key}.", remedy="Submit the run again from its project's folder: that stores it.")
    if _sha256(blob.data) != digest:
        raise ArtifactCorrupt(
            f"{key} in {workspace.url} has SHA-256 {_sha256(blob.data)}.",
            remedy="Submit the run again from its project's folder: that replaces it.",
        )
    files = files_in(blob.data)
    try:
        os.makedirs(directory, exist_ok=True)
        root = Path(os.path.realpath(directory))
        if _holds_exactly(root / digest, files):
            return root / digest
        return _extracted(root, digest, files)
    except OSError as error:
        raise EnvironmentNotReady(
            f"the code bundle cannot be unpacked into {directory}: {error.strerror or error}.",
            remedy="Give a folder that can be written to and has room: in a pod, an emptyDir volume.",
        ) from error


def _key(digest: str) -> str:
    if not _DIGEST.fullmatch(digest):
        raise SpecError(
            f"{digest[:80]!r} is not the digest of a code bundle.", remedy="Give the 64 hexadecimal characters that storing it returned."
        )
    return f"bundles/{digest}"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _refuse_secrets(root: Path, found: Sequence[tuple[str, str]]) -> None:
    if found:
        shown = ", ".join(f"{name} ({why})" for name, why in found[:_LISTED])
        more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
        raise SpecError(f"not sent, for it looks like a secret: {shown}{more} in {root}.", remedy=_KEEP_IT)


def _check_size(root: Path, sizes: dict[str, int]) -> None:
    total = archive_bytes(list(sizes.values()))
    if total > MAX_BUNDLE_BYTES:
        largest = sorted(sizes, key=lambda name: (-sizes[name], name))[:_LISTED]
        shown = ", ".join(f"{name} {sizes[name] / (1 << 20):.1f} MiB" for name in largest)
        raise SpecError(
            f"{root} has {total / (1 << 20):.1f} MiB to send, more than {MAX_BUNDLE_BYTES >> 20}; its largest files: {shown}.",
            remedy="Keep data in the bucket (s3://… in run.yaml) and models in the image, or let git ignore what the system does not need.",
        )


def _read(root: Path, name: str, path: Path) -> BundleFile:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            mode = os.fstat(handle).st_mode
            return BundleFile(name, file.read(MAX_BUNDLE_BYTES + 1), bool(mode & stat.S_IXUSR))
    except OSError as error:
        raise _unreadable(root, name, error) from error


def _size(root: Path, name: str, path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError as error:
        raise _unreadable(root, name, error) from error


def _unreadable(root: Path, name: str, error: OSError) -> SpecError:
    return SpecError(f"{name} in {root} cannot be read: {error.strerror}.", remedy="Mend its rights, or let git ignore it.")


def _holds_exactly(folder: Path, files: Sequence[BundleFile]) -> bool:
    """Whether a folder of ours holds these files and nothing else that Python could import, but for its own bytecode."""
    try:
        status = os.lstat(folder)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            return False
        found: set[str] = set()
        for place, folders, names in os.walk(folder):
            links = [name for name in folders if os.path.islink(os.path.join(place, name))]
            folders[:] = [name for name in folders if name != "__pycache__" and name not in links]
            found |= {os.path.relpath(os.path.join(place, name), folder) for name in (*names, *links)}
        return found == {file.name for file in files} and all(_holds(folder / file.name, file) for file in files)
    except OSError:
        return False  # it is not there, is going away, or cannot be read: nothing to build on


def _holds(path: Path, file: BundleFile) -> bool:
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode) or status.st_size != len(file.data) or bool(status.st_mode & stat.S_IXUSR) != file.executable:
        return False
    return path.read_bytes() == file.data


def _sweep(root: Path) -> None:
    """Remove what processes left that were killed while they unpacked, long enough ago that none of them can still be at it."""
    for name in os.listdir(root):
        with contextlib.suppress(OSError):  # another process removes it at the same time
            left = root / name
            if name.startswith(_TEMPORARY) and time.time() - left.lstat().st_mtime > _LEFT_BEHIND_S:
                shutil.rmtree(left)


def _extracted(root: Path, digest: str, files: Sequence[BundleFile]) -> Path:
    _sweep(root)
    temporary = root / (_TEMPORARY + secrets.token_hex(8))
    os.mkdir(temporary)
    try:
        for folder in sorted({folder for file in files for folder in folders_of(file.name)}):
            os.mkdir(temporary / folder)
        for file in files:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            handle = os.open(temporary / file.name, flags, 0o755 if file.executable else 0o644)
            with os.fdopen(handle, "wb") as output:
                output.write(file.data)
        crash_point("bundle-folder.unpublished")
        try:
            os.rename(temporary, root / digest)
            return root / digest
        except OSError:
            # Something has the name. A folder as ours is another process's: then ours is not needed.
            if not os.path.lexists(root / digest):
                raise
        if _holds_exactly(root / digest, files):
            return root / digest
        beside = root / f"{digest}-{secrets.token_hex(8)}"
        os.rename(temporary, beside)
        return beside
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
