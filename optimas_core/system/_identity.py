"""What identifies a callable: part of every cache key and of a system's fingerprint."""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from optimas_core.canonical import canonical_json


def code_identity(function: Callable[..., Any]) -> str:
    """What identifies a callable: its module's text, qualified name and line, and the plain values it holds.

    Two lambdas of one module, two closures of one function and two objects of one class thus differ. Values that JSON
    cannot hold are left out: their text would change from process to process.
    """
    target: Any = inspect.unwrap(function)
    held: dict[str, Any] = {}
    while isinstance(target, functools.partial):
        held = {**target.keywords, **{str(index): value for index, value in enumerate(target.args)}, **held}
        target = inspect.unwrap(target.func)
    owner = getattr(target, "__self__", None)  # a bound method
    if not hasattr(target, "__code__") and not inspect.isclass(target):
        target, owner = type(target), target
    held |= {f"self.{name}": value for name, value in getattr(owner, "__dict__", {}).items() if not inspect.isclass(owner)}
    code = getattr(target, "__code__", None)
    for name, cell in zip(getattr(code, "co_freevars", ()), getattr(target, "__closure__", None) or (), strict=False):
        with contextlib.suppress(ValueError):  # a name that is bound later
            held[f"closure.{name}"] = cell.cell_contents
    if code is not None and code.co_name == "<lambda>":  # two may stand on one line
        held["code"] = [code.co_code.hex(), code.co_names, [repr(item) for item in code.co_consts if not hasattr(item, "co_code")]]
    line = getattr(code, "co_firstlineno", "")
    qualified = f"{getattr(target, '__module__', '')}.{getattr(target, '__qualname__', '')}:{line}\n{_plain_values(held)}"
    try:
        path = inspect.getsourcefile(target)
    except TypeError:
        path = None
    return f"{qualified}\n{_text_of(path)}" if path and Path(path).is_file() else qualified


def _plain_values(held: Mapping[str, Any]) -> str:
    kept = {}
    for name, value in sorted(held.items()):
        with contextlib.suppress(TypeError, ValueError, RecursionError):
            kept[name] = json.dumps(value, sort_keys=True)  # arrays and tensors are left out: too large to read here
    return canonical_json(kept)


@functools.lru_cache(maxsize=256)
def _text_of(path: str) -> str:
    return Path(path).read_text(encoding="utf-8", errors="replace")
