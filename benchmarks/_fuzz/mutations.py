"""Inputs gone wrong: bytes, JSON and YAML as a broken disk, a foreign program or an enemy would leave them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import yaml

MAX_BYTES = 1 << 20
HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63), 10**400, 0.5, -0.0, 1e308, -1e308, 5e-324,
    float("nan"), float("inf"), float("-inf"),
    "", " ", "\0", "\n", "a\0b", "../../x", "/etc/passwd", "..", "C:\\x", "a/../../b", "x" * 3000, "\ud800", "\u202e", "\u2028",
    "\x1b[2J\x1b]0;x\a", "<script>alert(1)</script>", "{{ 7*7 }}", "%s%n", "${HOME}", "1e999", "nan", "-1", "0" * 40, "ab" * 16,
    [], {}, [[]], [None], [{}], {"": None}, {"per_input": [1], "lrf": "x"}, {"a": {"b": {}}}, [0] * 2000, {str(n): n for n in range(300)},
)  # fmt: skip
YAML_WORDS = (
    "&a", "*a", "<<: *a", "!!python/object/apply:os.system ['x']", "!!binary x", "!!set {a, b}", "!!omap [a: 1]", "!!timestamp 2001-1-1",
    "!!int x", "!!float .nan", "!!bool maybe", "!!null x", ".inf", "~", "? ", "- ", "---\n", "...\n", "\t", "%YAML 1.1\n", "%TAG ! x\n",
    "|\n", ">-\n", "'", '"', "{", "}", "[", "]", "0o777", "0x1f", "1_000", "1:30:00", "2001-01-01", "yes", "#", ": ", ", ", "@", "`",
    "&a [*a]", "{<<: {a: 1}, a: 2}", "\x85", "\u2028", "\ufeff", "\x00", "=",
)  # fmt: skip
_NUMBERS = ("1e999", "-1e-999", "NaN", "9" * 5000, "1" + "0" * 400, "0x1", "01", "1.", ".5", "- 1")
Seal = Callable[[Any], Any]


def broken_bytes(data: bytes, rng: random.Random, other: bytes = b"") -> bytes:
    """Bits flipped, parts cut, doubled, moved, overwritten, or joined with another input's."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        at = rng.randrange(len(out) + 1)
        size = min(rng.choice((1, 1, 2, 4, 8, 64, 1000)), len(out) - at)
        match rng.randrange(8):
            case 0 if at < len(out):
                out[at] ^= 1 << rng.randrange(8)
            case 1 if at < len(out):
                out[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            case 2:
                del out[at : at + size]
            case 3:
                del out[at:]
            case 4:
                out[at:at] = out[at : at + size]
            case 5:
                out[at : at + size] = bytes(rng.choice((0, 0xFF, rng.randrange(256))) for _ in range(size))
            case 6:
                out[at : at + 8] = rng.choice((2**31 - 1, 2**32 - 1, 2**63 - 1, 1)).to_bytes(8, rng.choice(("little", "big")))
            case _ if other:
                start = rng.randrange(len(other))
                out[at:] = other[start:] if rng.random() < 0.5 else other[start : start + size] + out[at:]
    return bytes(out[:MAX_BYTES])


def broken_tar(data: bytes, rng: random.Random, other: bytes = b"") -> bytes:
    """The first header's fields changed and its check sum made right again, or bytes anywhere."""
    if rng.random() < 0.3 or len(data) < 1024:
        return broken_bytes(data, rng, other)
    head = bytearray(data[:512])
    start, size = rng.choice(((0, 100), (100, 8), (108, 8), (124, 12), (136, 12), (156, 1), (157, 100), (257, 8), (265, 32), (345, 155)))
    word = rng.choice(
        (b"../../x", b"/etc/x", b"a/../../b", b"..", b"", b"77777777777", b"\x80\0\0\xff", b"2", b"5", b"x" * 200, b"a\0b", b"-1")
    )
    head[start : start + size] = word[:size].ljust(size, b"\0")
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + data[512:]


def broken_json(data: bytes, rng: random.Random, other: bytes = b"", *, seal: Seal = lambda value: value) -> bytes:
    """A value replaced, removed, renamed, copied elsewhere or nested; `seal` makes check sums right again before it is written."""
    try:
        value = json.loads(data)
        donor = json.loads(other) if other else None
    except (ValueError, RecursionError):
        return broken_bytes(data, rng, other)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        value = _changed(value, rng, donor)
    try:
        text = json.dumps(seal(value), ensure_ascii=rng.random() < 0.5, separators=rng.choice(((",", ":"), (", ", ": "))))
    except (ValueError, TypeError, RecursionError):
        return broken_bytes(data, rng, other)
    for _ in range(rng.choice((0, 0, 0, 0, 0, 1))):
        text = _spelled_wrong(text, rng)
    raw = text.encode("utf-8", "surrogatepass")
    return (broken_bytes(raw, rng, other) if rng.random() < 0.05 else raw)[:MAX_BYTES]


def _changed(value: Any, rng: random.Random, donor: Any) -> Any:
    paths = list(_paths(value))
    path = rng.choice(paths)
    if not path:
        return rng.choice((*HOSTILE, [value], {"x": value}, donor)) if rng.random() < 0.3 else value
    parent = _at(value, path[:-1])
    key = path[-1]
    match rng.randrange(8):
        case 0 | 1 | 2:
            parent[key] = rng.choice(HOSTILE)
        case 3:
            del parent[key]
        case 4:
            parent[key] = json.loads(json.dumps(_at(value, rng.choice(paths))))
        case 5 if isinstance(parent, dict):
            name = rng.choice((*parent, "", "../x", "\0", "x" * 300, "\ud800", "\x1b[31m", "check", "per_input"))
            parent[str(name)] = parent.pop(key)
        case 6:
            parent[key] = _nested(parent[key], rng)
        case _:
            found = parent[key]
            parent[key] = [found] if isinstance(found, str) else str(found)
    return value


def _paths(value: Any, limit: int = 4000) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = [()]
    for path in found:
        item = _at(value, path)
        if isinstance(item, dict):
            found += [(*path, key) for key in item]
        elif isinstance(item, list):
            found += [(*path, index) for index in range(min(len(item), 50))]
        if len(found) > limit:
            break
    return found


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def _nested(value: Any, rng: random.Random) -> Any:
    for _ in range(rng.choice((1, 3, 98, 101, 150, 400))):
        value = [value] if rng.random() < 0.5 else {"x": value}
    return value


def _spelled_wrong(text: str, rng: random.Random) -> str:
    """What json.dumps never writes: one key twice, numbers without end, texts of odd escapes, brackets without end."""
    at = rng.randrange(len(text) + 1)
    match rng.randrange(6):
        case 0:
            return text.replace("{", '{"check":1,"check":2,', 1)
        case 1:
            return text[:at] + rng.choice(_NUMBERS) + text[at:]
        case 2:
            return text[:at] + rng.choice(("\\ud800", "\\u0000", "\\x", "\\", "\x00", "\x1b", "\ufeff", "/*", "//", "'", '"')) + text[at:]
        case 3:
            return rng.choice("[{") * rng.choice((90, 110, 2000, 100_000)) + text
        case 4:
            return "[" + text + "," + text + "]"
        case _:
            return "\ufeff" + text


def broken_yaml(data: bytes, rng: random.Random, other: bytes = b"") -> bytes:
    """As JSON, then written as YAML, with words of YAML's own put in."""
    try:
        if b"*" in data:
            raise ValueError("aliases may stand for gigabytes")
        value = yaml.safe_load(data)
        for _ in range(rng.choice((0, 1, 1, 2, 4))):
            value = _changed(value, rng, None)
        text = yaml.safe_dump(value, allow_unicode=rng.random() < 0.5, default_flow_style=rng.choice((None, False, True)))
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
        text = data.decode("utf-8", "replace")
    for _ in range(rng.choice((0, 0, 1, 1, 2, 5))):
        at = rng.randrange(len(text) + 1)
        word = rng.choice(YAML_WORDS)
        text = text[:at] + rng.choice((word, f"\n{word}", f"\nx: {word}\n", word * 50)) + text[at:]
    if rng.random() < 0.03:
        levels = rng.choice((3, 9, 30))
        text += "\na0: &a0 [x]\n" + "".join(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]\n" for n in range(levels))
    raw = text.encode("utf-8", "surrogatepass")
    return (broken_bytes(raw, rng, other) if rng.random() < 0.1 else raw)[:MAX_BYTES]
