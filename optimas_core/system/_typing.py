"""Types of a component's fields, read from the annotations of the function it was made of."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Union, get_args, get_origin, get_type_hints

from optimas_core.canonical import canonical_json
from optimas_core.errors import SystemDefinitionError


def input_types(function: Callable[..., Any], names: Sequence[str]) -> dict[str, Any]:
    """Declared types of the named parameters; a parameter without annotation has none."""
    hints = _hints(function)
    return {name: hints[name] for name in names if name in hints}


def output_types(function: Callable[..., Any], names: Sequence[str]) -> dict[str, Any]:
    """Declared types of the outputs: the return annotation, or the fields of a returned class (TypedDict, dataclass, model)."""
    returned = _hints(function).get("return")
    if returned is None:
        return {}
    fields = _hints(returned) if isinstance(returned, type) else {}
    if any(name in fields for name in names):
        return {name: fields[name] for name in names if name in fields}
    kind = get_origin(returned) or returned
    if len(names) > 1 or (isinstance(kind, type) and issubclass(kind, Mapping)):
        return {}
    return {names[0]: returned}


def check_outputs(outputs: Mapping[str, Any], declared: Mapping[str, Any], label: str) -> None:
    """Nothing is converted, so "5" is no int; a value also fits where its JSON does (a tuple for a list).

    Raises:
        SystemDefinitionError: an output is not of its declared type; names component, field and both types.
    """
    from pydantic import ValidationError

    for name, value in outputs.items():
        if name not in declared:
            continue
        adapter = _adapter(declared[name])
        if adapter is None:
            continue
        try:
            adapter.validate_python(value, strict=True)
        except ValidationError:
            try:
                adapter.validate_json(canonical_json(value), strict=True)
            except (ValueError, TypeError):
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
    target: Any = function
    if not hasattr(function, "__code__") and not isinstance(function, type):
        target = type(function).__call__
    try:
        return get_type_hints(target)
    except (NameError, TypeError, AttributeError):
        return {}  # annotations that cannot be resolved declare nothing


@functools.lru_cache(maxsize=512)
def _cached_adapter(declared: Any) -> Any:
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticUserError

    try:
        return TypeAdapter(declared)
    except (PydanticUserError, NameError):
        return None  # no kind that pydantic can check


def _adapter(declared: Any) -> Any:
    try:
        return _cached_adapter(declared)
    except TypeError:
        return None  # an annotation that cannot be hashed is not checked
