"""A workspace in memory: thousands of them a minute, each with one file gone wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

from optimas_core.artifacts import Blob, Conflict, StoredKey
from optimas_core.artifacts._store import MAX_VALUE_BYTES, check_key, is_key, too_large


class MemoryStore:
    """A Store over a dict; what it is given is not changed."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)

    @property
    def url(self) -> str:
        return "memory://fuzz"

    def get(self, key: str, *, max_bytes: int = MAX_VALUE_BYTES) -> Blob | None:
        data = self.files.get(check_key(key))
        if data is not None and len(data) > max_bytes:
            raise too_large(key, len(data), max_bytes)
        return None if data is None else Blob(data, _etag(data))

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None, durable: bool = True) -> str:
        there = self.files.get(check_key(key))
        if (if_absent and there is not None) or (if_match is not None and (there is None or _etag(there) != if_match)):
            raise Conflict(f"{key} is another.")
        self.files[key] = bytes(data)
        return _etag(data)

    def list(self, prefix: str = "") -> Iterator[str]:
        return iter(sorted(key for key in self.files if key.startswith(prefix) and is_key(key)))

    def scan(self, prefix: str = "") -> Iterator[StoredKey]:
        return (StoredKey(key, len(self.files[key]), 0.0) for key in self.list(prefix))

    def delete(self, key: str) -> None:
        self.files.pop(key, None)


def _etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
