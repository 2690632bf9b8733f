"""The crash points around a store's writes, named after what the key holds: "state.before", "lrf-manifest.after"."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from optimas_core.artifacts._layout import MANIFEST
from optimas_core.crash_points import armed, crash_point

_PLAIN = {"spec.json": "spec", "lease.json": "lease"}
_TOP = {"bundles": "bundle", "calls": "call-record", "current": "promotion", "data": "data", "probe": "probe"}
_FOLDERS = {"state": "state", "ledger": "ledger", "configurations": "configuration", "report": "report"}


@contextmanager
def writing(key: str) -> Iterator[None]:
    """Around one write: `<role>.before`, and `<role>.after` unless it failed."""
    if not armed():
        yield
        return
    role = role_of(key)
    crash_point(f"{role}.before")
    yield
    crash_point(f"{role}.after")


def unpublished(key: str) -> None:
    """The bytes are on the disk, but not yet under their key."""
    if armed():
        crash_point(f"{role_of(key)}.unpublished")


def role_of(key: str) -> str:
    """What a key holds: "spec", "lease", "state", "state-hint", "<kind>-file", "<kind>-manifest", "call-record", …"""
    parts = key.split("/")
    if parts[0] != "runs" or len(parts) < 3:
        return _TOP.get(parts[0], "other")
    if len(parts) == 3:
        return _PLAIN.get(parts[2], "other")
    folder, last = parts[2], parts[-1]
    if folder in _FOLDERS:
        return f"{_FOLDERS[folder]}-hint" if last == "HEAD" else _FOLDERS[folder]
    return f"{folder}-manifest" if last == MANIFEST and len(parts) == 5 else f"{folder}-file"
