"""What a workspace needs of a place to keep bytes: four methods with conditional writes.

Every guarantee of the layers above (one state wins an index, one holder per run, first writer of a call wins) comes
from `put(if_absent=…)` and `put(if_match=…)`; a store that ignores them is refused by `probe`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from optimas_core.errors import ArtifactCorrupt, PermanentError

MAX_KEY_CHARS = 900
MAX_VALUE_BYTES = 2 << 30

# A segment never begins with a dot: ".", ".." and the directory store's own files (".lock", ".tmp-…") are not keys.
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._=@:+-]{0,199}")


class Conflict(PermanentError):
    """The condition of a write did not hold: someone else wrote first. Read again and decide."""

    code = "conflict"


@dataclass(frozen=True, slots=True)
class Blob:
    """The bytes under a key and the opaque tag that `put(if_match=…)` compares."""

    data: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key with what a listing knows of it. `modified_at_s` is in seconds since 1970 on the store's clock."""

    key: str
    size: int
    modified_at_s: float


class Store(Protocol):
    """A place for bytes under keys like "runs/r1/spec.json". Synchronous and safe to call from many threads.

    Every method may raise StoreUnavailable (worth trying again) or EnvironmentNotReady (needs a person).
    """

    @property
    def url(self) -> str:
        """Where it is, as `open_store` takes it. Never holds a secret."""

    def get(self, key: str, *, max_bytes: int = MAX_VALUE_BYTES) -> Blob | None:
        """The whole value, or None where there is none.

        Raises:
            ArtifactCorrupt: it has more than `max_bytes`; nothing of it is read then.
        """

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None, durable: bool = True) -> str:
        """Write the whole value at once; a reader sees the old one or the new one. Returns the new etag.

        `durable=False` lets a local store skip the flush to disk: for values that can be had again.

        Raises:
            Conflict: the key exists (`if_absent`), or its etag is another or it is gone (`if_match`).
        """

    def list(self, prefix: str = "") -> Iterator[str]:
        """The keys that begin with `prefix`, in order of their characters."""

    def scan(self, prefix: str = "") -> Iterator[StoredKey]:
        """As `list`, with size and age."""

    def delete(self, key: str) -> None:
        """Remove the key; nothing happens where there is none."""


def too_large(key: str, size: int, max_bytes: int) -> ArtifactCorrupt:
    return ArtifactCorrupt(f"{key} has {size} bytes; at most {max_bytes} are read.", remedy="Restore the file from a backup, or delete it.")


def check_key(key: str) -> str:
    """Return `key` when it is safe on every store.

    Raises:
        ValueError: empty, absolute, too long, or a segment that is empty, begins with a dot or has other characters
            than letters, digits and ``. _ = @ : + -``.
    """
    if not is_key(key):
        raise ValueError(f"not a store key: {key[:120]!r}")
    return key


def is_key(key: str) -> bool:
    """Whether `check_key` would accept it: listings leave out foreign files."""
    return len(key) <= MAX_KEY_CHARS and all(_SEGMENT.fullmatch(segment) for segment in key.split("/"))
