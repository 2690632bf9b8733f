"""Types of a component's fields, read from the annotations of the function it was made of."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints, is_typeddict

from optimas_core.errors import SystemDefinitionError


def input_types(function: Callable[..., Any], names: Sequence[str]) -> dict[str, Any]:
    """Declared types of the named parameters; a parameter without annotation has none."""
    hints = _hints(function)
    return {name: hints[name] for name in names if name in hints}


def output_types(function: Callable[..., Any], names: Sequence[str]) -> dict[str, Any]:
    """Declared types of the outputs: the return annotation, or the fields of a returned TypedDict or dataclass."""
    returned = _hints(function).get("return")
    if returned is None:
        return {}
    if is_typeddict(returned) or is_dataclass(returned):
        fields = get_type_hints(returned)
        return {name: fields[name] for name in names if name in fields}
    if len(names) == 1 and get_origin(returned) is not dict and returned not in (dict, Mapping):
        return {names[0]: returned}
    return {}


def check_outputs(outputs: Mapping[str, Any], declared: Mapping[str, Any], label: str) -> None:
    """Raises SystemDefinitionError if an output is not of its declared type; names component, field and both types."""
    from pydantic import ValidationError

    for name, value in outputs.items():
        if name not in declared:
            continue
        adapter = _adapter(declared[name])
        if adapter is None:
            continue
        try:
            adapter.validate_python(value)
        except ValidationError:
            raise SystemDefinitionError(
                f"component {label!r} declares {name!r} as {declared[name]} and returned {type(value).__name__}.",
                remedy="Correct the annotation or the return value.",
            ) from None


def plainly_different(produced: Any, consumed: Any) -> bool:
    """True where two plain types cannot meet (str and list, int and str); False wherever in doubt."""
    left, right = _plain_kind(produced), _plain_kind(consumed)
    if left is None or right is None or left == right:
        return False
    return {left, right} != {int, float}


def _plain_kind(declared: Any) -> type | None:
    origin = get_origin(declared)
    if origin in (Union, types.UnionType):
        kinds = {_plain_kind(item) for item in get_args(declared) if item is not type(None)}
        return kinds.pop() if len(kinds) == 1 else None
    kind = origin or declared
    return kind if kind in (str, int, float, bool, list, dict) else None


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    target = function if hasattr(function, "__code__") else getattr(function, "__call__", function)
    try:
        return get_type_hints(target)
    except (NameError, TypeError, AttributeError):
        return {}  # annotations that cannot be resolved declare nothing


@functools.lru_cache(maxsize=512)
def _cached_adapter(declared: Any) -> Any:
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticSchemaGenerationError

    try:
        return TypeAdapter(declared)
    except PydanticSchemaGenerationError:
        return None


def _adapter(declared: Any) -> Any:
    try:
        return _cached_adapter(declared)
    except TypeError:
        return None  # an annotation that cannot be hashed is not checked
