"""A store in a local directory: atomic, durable, and safe against keys and links that point outside.

A value is written to a temporary file in its own folder and then published by one system call: `link` for
`if_absent` (it fails when the name exists), `rename` otherwise. Overwrites and deletions hold one lock file, so that
`if_match` compares and replaces as one step, between threads and between processes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from optimas_core.artifacts._store import MAX_VALUE_BYTES, Blob, Conflict, StoredKey, check_key, is_key, too_large
from optimas_core.artifacts._write_points import unpublished, writing
from optimas_core.canonical import digest_bytes
from optimas_core.errors import ArtifactCorrupt, EnvironmentNotReady, StoreUnavailable

_TEMPORARY = ".tmp-"
_NEEDS_A_PERSON = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class DirectoryStore:
    """Keys are files below `path`, which is made at the first write. Implements `Store`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        # Resolved once: everything below must stay below this real directory.
        self._root = os.path.realpath(os.path.expanduser(os.fspath(path)))

    @property
    def url(self) -> str:
        return Path(self._root).as_uri()

    def get(self, key: str, *, max_bytes: int = MAX_VALUE_BYTES) -> Blob | None:
        path = self._path(key)
        with self._errors("read", key):
            try:
                # Without O_NONBLOCK, opening a pipe that someone left here would wait for ever.
                handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError):
                return None
            except OSError as error:
                if error.errno == errno.ELOOP:
                    raise ArtifactCorrupt(
                        f"{path} is a symbolic link; a workspace holds plain files only.", remedy="Remove the link."
                    ) from error
                raise
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                os.close(handle)
                return None
            with os.fdopen(handle, "rb") as file:
                if status.st_size > max_bytes:
                    raise too_large(key, status.st_size, max_bytes)
                data = file.read()
        return Blob(data, digest_bytes(data))

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None, durable: bool = True) -> str:
        if if_absent and if_match is not None:
            raise ValueError("a write has at most one condition: if_absent or if_match")
        path = self._path(key)
        folder = os.path.dirname(path)
        temporary = os.path.join(folder, _TEMPORARY + secrets.token_hex(8))
        with writing(key), self._errors("write", key):
            self._make_folder(folder, durable)
            try:
                _write_file(temporary, data, durable)
                unpublished(key)
                if if_absent:
                    self._publish_new(temporary, path, key)
                else:
                    self._publish_over(temporary, path, key, if_match)
            finally:
                with contextlib.suppress(OSError):  # already renamed, or the disk is failing and said so above
                    os.unlink(temporary)
            if durable:
                _flush_folder(folder)
        return digest_bytes(data)

    def list(self, prefix: str = "") -> Iterator[str]:
        for found in self.scan(prefix):
            yield found.key

    def scan(self, prefix: str = "") -> Iterator[StoredKey]:
        start = prefix.rpartition("/")[0]
        if start and not is_key(start):
            return
        yield from self._walk(f"{start}/" if start else "", prefix)

    def delete(self, key: str) -> None:
        path = self._path(key)
        with self._errors("delete", key):
            if not os.path.lexists(path):
                return
            with self._lock(), contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def sweep(self, *, min_age_s: float, dry_run: bool) -> tuple[str, ...]:
        """Remove temporary files that killed writers left behind; returns their paths below the directory."""
        swept = []
        for folder, _, names in os.walk(self._root):
            for path in (os.path.join(folder, name) for name in sorted(names) if name.startswith(_TEMPORARY)):
                with contextlib.suppress(FileNotFoundError):  # its writer finished meanwhile
                    if time.time() - os.lstat(path).st_mtime < min_age_s:
                        continue
                    if not dry_run:
                        os.unlink(path)
                    swept.append(os.path.relpath(path, self._root))
        return tuple(sorted(swept))

    def _walk(self, base: str, prefix: str) -> Iterator[StoredKey]:
        with self._errors("list", base or "."):
            try:
                with os.scandir(os.path.join(self._root, base)) as found:
                    # A folder sorts as "name/": the order of whole keys, as S3 lists them.
                    entries = sorted((e.name + "/" if e.is_dir(follow_symlinks=False) else e.name, e) for e in found)
            except (FileNotFoundError, NotADirectoryError):
                return
        for name, entry in entries:
            key = base + name
            if name.endswith("/"):
                if is_key(key[:-1]) and (key.startswith(prefix) or prefix.startswith(key)):
                    yield from self._walk(key, prefix)
            elif key.startswith(prefix) and is_key(key) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(FileNotFoundError):  # deleted since the folder was read
                    status = entry.stat(follow_symlinks=False)
                    yield StoredKey(key, status.st_size, status.st_mtime)

    def _path(self, key: str) -> str:
        """The file of a key, after making sure that no link on the way leads out of the directory."""
        path = os.path.join(self._root, *check_key(key).split("/"))
        real = os.path.realpath(os.path.dirname(path))
        if real != self._root and not real.startswith(self._root.rstrip("/") + "/"):
            raise ArtifactCorrupt(
                f"the folder of {key} in {self._root} is a symbolic link that leads out of the workspace.",
                remedy="Remove the link.",
            )
        return path

    def _make_folder(self, folder: str, durable: bool) -> None:
        missing = []
        while not os.path.isdir(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        for name in reversed(missing):
            with contextlib.suppress(FileExistsError):  # another writer made it first
                os.mkdir(name)
            if durable:
                _flush_folder(os.path.dirname(name))

    def _publish_new(self, temporary: str, path: str, key: str) -> None:
        try:
            os.link(temporary, path, follow_symlinks=False)
        except FileExistsError:
            raise Conflict(f"{key} exists already in {self.url}.") from None
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            with self._lock():  # a file system without hard links: every writer there comes through here
                if os.path.lexists(path):
                    raise Conflict(f"{key} exists already in {self.url}.") from None
                os.rename(temporary, path)

    def _publish_over(self, temporary: str, path: str, key: str, if_match: str | None) -> None:
        with self._lock():
            if if_match is not None:
                current = self.get(key)
                if current is None or current.etag != if_match:
                    raise Conflict(f"{key} in {self.url} changed since it was read.")
            os.replace(temporary, path)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        handle = os.open(os.path.join(self._root, ".lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)  # closing gives the lock back

    @contextlib.contextmanager
    def _errors(self, doing: str, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or type(error).__name__
            message = f"cannot {doing} {key} in {self._root}: {reason}."
            if error.errno in _NEEDS_A_PERSON:
                raise EnvironmentNotReady(message, remedy="Choose a workspace directory that you can write to.") from error
            raise StoreUnavailable(message, remedy="Free space or mend the disk, then resume the run.") from error


def _write_file(path: str, data: bytes, durable: bool) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(handle, "wb", buffering=0) as file:
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]
        if durable:
            os.fsync(handle)


def _flush_folder(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot flush a folder
            raise
    finally:
        os.close(handle)
