"""Canonical JSON and the digests that name everything in a workspace; and how JSON from elsewhere is read.

Two equal values have one text, whatever the order of their keys; NaN, infinity and values nested deeper than `MAX_DEPTH`
have none.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

MAX_DEPTH = 100
MAX_JSON_BYTES = 16 << 20
# A value may take 24 times the memory of its text ("[],"): what bounds the memory is their number.
MAX_JSON_VALUES = 1_000_000
# A whole number that no float can hold stops whatever calculates with it.
_LONG_NUMBER = re.compile(rb"\d{309}")


def canonical_json(value: Any) -> str:
    """The one JSON text of `value`: sorted keys, no spaces, UTF-8 characters kept.

    Raises:
        TypeError: a value JSON cannot hold, or two keys with one text (1 and "1").
        ValueError: NaN or infinity, or nested deeper than `MAX_DEPTH`.
    """
    return json.dumps(_plain(value, MAX_DEPTH), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def parse_json(text: str | bytes, *, max_bytes: int = MAX_JSON_BYTES, max_depth: int = MAX_DEPTH) -> Any:
    """The value of a JSON text that anyone may have written, within bounded memory and exactly. It has canonical JSON, unless a greater
    `max_depth` is given.

    Raises:
        ValueError: not JSON, longer than `max_bytes`, more than `MAX_JSON_VALUES` values, nested deeper than `max_depth`, one key twice
            in an object, or a number that is not finite (NaN, 1e999) or has more than 308 digits.
    """
    if len(text) > max_bytes:
        raise ValueError(f"{len(text)} bytes of JSON; at most {max_bytes} are read")
    openings, commas = (text.count("[") + text.count("{"), text.count(",")) if isinstance(text, str) else _counted(text)
    if openings + commas > MAX_JSON_VALUES:
        raise ValueError(f"more than {MAX_JSON_VALUES} values in one JSON text")
    try:
        hooks: dict[str, Any] = {"object_pairs_hook": _object, "parse_float": _finite, "parse_constant": _finite}
        if _LONG_NUMBER.search(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")):
            hooks["parse_int"] = _not_too_long
        value = json.loads(text, **hooks)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if openings > max_depth:
        _check_depth(value, max_depth)
    return value


def digest(value: Any) -> str:
    """32 hexadecimal characters (128 bits) of the SHA-256 of the canonical JSON of `value`."""
    return digest_bytes(canonical_json(value).encode("utf-8", "surrogatepass"))


def digest_bytes(data: bytes) -> str:
    """32 hexadecimal characters (128 bits) of the SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()[:32]


def derive_seed(*parts: Any) -> int:
    """A 63-bit seed from the parts: the run's own randomness, which no library call can disturb."""
    return int(hashlib.sha256(canonical_json(list(parts)).encode("utf-8", "surrogatepass")).hexdigest()[:16], 16) >> 1


def _plain(value: Any, depth: int) -> Any:
    if depth < 0:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        plain = {str(key): _plain(item, depth - 1) for key, item in value.items()}
        if len(plain) != len(value):
            raise TypeError(f"a mapping has two keys with one text: {sorted(map(repr, value))}")
        return plain
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth - 1) for item in value]
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        return value.item()
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "model_dump"):
        return _plain(value.model_dump(mode="json"), depth)
    if hasattr(value, "to_json"):
        return _plain(value.to_json(), depth - 1)
    raise TypeError(f"{type(value).__name__} has no canonical JSON; use str, numbers, lists and dicts")


def _counted(text: bytes) -> tuple[int, int]:
    return text.count(b"[") + text.count(b"{"), text.count(b",")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has one key twice")
    return found


def _finite(text: str) -> float:
    """Of "1e999", "NaN" and "-Infinity" too, as Python's parser hands them on."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is not finite")
    return number


def _not_too_long(text: str) -> int:
    if len(text) > 308:
        raise ValueError("a number is too large")
    return int(text)


def _check_depth(value: Any, max_depth: int) -> None:
    level, below = 0, [value]
    while below:
        if level == max_depth:
            raise ValueError(f"nested deeper than {max_depth} levels")
        items = (item.values() if isinstance(item, dict) else item for item in below)
        below = [inner for item in items if not isinstance(item, str) for inner in item if isinstance(inner, dict | list)]
        level += 1
