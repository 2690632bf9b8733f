"""Canonical JSON and the digests that name everything in a workspace.

Two equal values have one text, whatever the order of their keys; NaN and infinity have none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def canonical_json(value: Any) -> str:
    """The one JSON text of `value`: sorted keys, no spaces, UTF-8 characters kept.

    Raises:
        TypeError: a value JSON cannot hold, or two keys with one text (1 and "1").
        ValueError: NaN or infinity.
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """32 hexadecimal characters (128 bits) of the SHA-256 of the canonical JSON of `value`."""
    return digest_bytes(canonical_json(value).encode("utf-8", "surrogatepass"))


def digest_bytes(data: bytes) -> str:
    """32 hexadecimal characters (128 bits) of the SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()[:32]


def derive_seed(*parts: Any) -> int:
    """A 63-bit seed from the parts: the run's own randomness, which no library call can disturb."""
    return int(hashlib.sha256(canonical_json(list(parts)).encode("utf-8", "surrogatepass")).hexdigest()[:16], 16) >> 1


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        plain = {str(key): _plain(item) for key, item in value.items()}
        if len(plain) != len(value):
            raise TypeError(f"a mapping has two keys with one text: {sorted(map(repr, value))}")
        return plain
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        return value.item()
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "model_dump"):
        return _plain(value.model_dump(mode="json"))
    if hasattr(value, "to_json"):
        return _plain(value.to_json())
    raise TypeError(f"{type(value).__name__} has no canonical JSON; use str, numbers, lists and dicts")
