"""A component C_k: a typed step with named inputs and outputs, a configuration space and a body.

`component(function, …)` makes one from a plain function, a coroutine function or any object with `__call__`. The function
itself is left as it was: calling it directly does what it always did.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from optimas_core.canonical import digest
from optimas_core.crash_points import crash_point
from optimas_core.errors import ConfigurationError, SystemDefinitionError
from optimas_core.system._identity import code_identity
from optimas_core.system._spaces import Space
from optimas_core.system._typing import check_outputs, input_types, output_types

# The finish reason of a try whose answer was lost: its tokens and USD are the most it may have cost, all counted as input.
LOST = "lost"


@dataclass(frozen=True, slots=True)
class CallUsage:
    """What one model call inside a component cost. `usd` is None when the price is unknown."""

    model: str
    tokens_in: int
    tokens_out: int
    usd: float | None
    latency_s: float
    attempts: int = 1
    finish_reason: str = "stop"


@dataclass(frozen=True, slots=True)
class WorstCase:
    """Upper bound of what one execution may spend, reserved before it starts. `usd` None: a model without a price is used."""

    tokens: int = 0
    usd: float | None = 0.0


class CallContext:
    """What a body is given beside its inputs: a seed for its own randomness and a place where model calls are recorded.

    Args:
        seed: of the body's own randomness.
        bound: the most one model call may cost; what a try counts whose answer was lost.
        again: sets aside as much again before such a try is repeated; raises BudgetExhausted.
    """

    def __init__(
        self, seed: int, *, bound: WorstCase | None = None, again: Callable[[WorstCase], Coroutine[Any, Any, None]] | None = None
    ) -> None:
        self.seed = seed
        self.usage: list[CallUsage] = []
        self._bound = bound or WorstCase()
        self._again = again

    async def complete(self, client: Any, request: Any) -> Any:
        """Ask a model and record what it cost, and what tries may have cost whose answers were lost."""
        meter = _LostTries(client.id, self.usage, self._bound, self._again)
        try:
            crash_point("model-call.before")
            reply = await client.complete(replace(request, meter=meter))
            crash_point("model-call.after")
        except asyncio.CancelledError:
            meter.lost()  # it may have been sent
            raise
        self.usage.append(
            CallUsage(
                client.id,
                reply.tokens_in,
                reply.tokens_out,
                reply.usd,
                reply.latency_s,
                reply.attempts,
                reply.finish_reason,
            )
        )
        return reply


@dataclass(frozen=True, slots=True)
class _LostTries:
    """`models.AttemptMeter` of one call."""

    model: str
    usage: list[CallUsage]
    bound: WorstCase
    reserve: Callable[[WorstCase], Coroutine[Any, Any, None]] | None

    def lost(self) -> None:
        self.usage.append(CallUsage(self.model, self.bound.tokens, 0, self.bound.usd, 0.0, finish_reason=LOST))

    async def again(self) -> None:
        if self.reserve is not None:
            await self.reserve(self.bound)


class Body(Protocol):
    def __call__(
        self, inputs: Mapping[str, Any], knobs: Mapping[str, Any], context: CallContext, /
    ) -> Coroutine[Any, Any, Mapping[str, Any]]: ...


@dataclass(frozen=True)
class Condition:
    """Whether a component runs for an example; `fields` are the names it looks at (edges of E(x))."""

    fields: tuple[str, ...]
    holds: Callable[..., bool]


@dataclass(frozen=True, eq=False)
class Component:
    """One node of the graph. Immutable; overrides are values passed to `body`, never state."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    body: Body
    optional_inputs: Mapping[str, Any] = field(default_factory=dict)
    types: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    space: Mapping[str, Space] = field(default_factory=dict)
    deterministic: Callable[[Mapping[str, Any]], bool] = lambda knobs: True
    when: Condition | None = None
    otherwise: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str = ""
    kind: str = "function"
    clients: tuple[Any, ...] = ()
    worst_case: Callable[[Mapping[str, Any], Mapping[str, Any]], WorstCase] = lambda inputs, knobs: WorstCase()
    explore: Callable[[Mapping[str, Any], float], Mapping[str, Any]] | None = None

    @property
    def optimizable(self) -> bool:
        return bool(self.space)

    @property
    def reads(self) -> tuple[str, ...]:
        """Every field it waits for: required and optional inputs, and what its condition looks at."""
        condition = self.when.fields if self.when else ()
        return tuple(dict.fromkeys((*self.inputs, *self.optional_inputs, *condition)))

    def check(self, knobs: Mapping[str, Any]) -> None:
        """Every knob is known and inside its space.

        Raises:
            ConfigurationError: names the component, the knob and the value.
        """
        for name in knobs:
            if name not in self.defaults:
                raise ConfigurationError(f"component {self.name!r} has no knob {name!r}.", remedy=f"Its knobs are {sorted(self.defaults)}.")
        for name, space in self.space.items():
            space.check(knobs.get(name, self.defaults.get(name)), f"{self.name}.{name}")

    def __repr__(self) -> str:
        return f"Component({self.name!r}: {', '.join(self.inputs)} -> {', '.join(self.outputs)})"


def component(
    function: Callable[..., Any],
    *,
    outputs: str | Sequence[str],
    name: str | None = None,
    inputs: Sequence[str] | None = None,
    space: Mapping[str, Space] | None = None,
    deterministic: bool | None = None,
    when: Callable[..., bool] | None = None,
    otherwise: Mapping[str, Any] | None = None,
    blocking: bool = True,
    version: str = "",
) -> Component:
    """Make a component of a function, a coroutine function or any object with `__call__`.

    Parameters named in `space` are knobs, their defaults the starting configuration; `seed` receives a seed; every other
    parameter is an input read from the field of its name (one with a default is optional). The return value is the output, or a
    mapping (or an object with attributes) of several.

    Args:
        function: called with keyword arguments only.
        outputs: the field or fields it writes.
        name: default: the function's name.
        inputs: names to pass, where the signature does not tell (`**kwargs`).
        space: knob name to space.
        deterministic: equal inputs give equal outputs, so one execution serves all repeats. Default: True, unless the function
            takes a `seed`.
        when: a predicate over fields, by parameter name; where it is false the component is skipped for that example.
        otherwise: values its outputs take when it is skipped; without it they stay absent.
        blocking: a synchronous function runs in a thread; pass False for a quick pure one.
        version: part of its cache key beside the source of its module and the plain values (JSON) that the object, closure or
            partial holds: give the digest of any other data it reads.

    Raises:
        SystemDefinitionError: not callable, a knob without default, no outputs.

    Example:
        >>> def retrieve(query: str, k: int = 3) -> list[str]: ...
        >>> component(retrieve, outputs="passages", space={"k": NumberGrid(1, 3, 5)})
    """
    if not callable(function):
        raise SystemDefinitionError(f"{function!r} cannot be called.", remedy="Give a function or an object with __call__.")
    names = (outputs,) if isinstance(outputs, str) else tuple(outputs)
    label = name or str(getattr(function, "__name__", type(function).__name__))
    if not names:
        raise SystemDefinitionError(f"component {label!r} has no outputs.", remedy="Name the fields it writes.")
    space = dict(space or {})
    required, optional, defaults, takes_seed = _parameters(function, label, inputs, space)
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)

    async def body(values: Mapping[str, Any], knobs: Mapping[str, Any], context: CallContext) -> Mapping[str, Any]:
        arguments = {**values, **{knob: knobs[knob] for knob in defaults}}
        if takes_seed:
            arguments["seed"] = context.seed
        if is_async:
            result = await function(**arguments)
        elif blocking:
            result = await asyncio.to_thread(_called, function, arguments)
        else:
            result = function(**arguments)
        if inspect.isawaitable(result):  # a plain callable around a coroutine function
            result = await result
        produced = _named_outputs(result, names, label)
        check_outputs(produced, types, label)
        return produced

    types = output_types(function, names)
    is_deterministic = deterministic if deterministic is not None else not takes_seed
    return Component(
        name=label,
        inputs=required,
        outputs=names,
        body=body,
        optional_inputs=optional,
        types={**input_types(function, (*required, *optional)), **types},
        defaults=defaults,
        space=space,
        deterministic=lambda knobs: is_deterministic,
        when=condition(when) if when else None,
        otherwise=dict(otherwise or {}),
        fingerprint=digest(["function", code_identity(function), version]),
    )


def condition(predicate: Callable[..., bool]) -> Condition:
    """A predicate over fields, by parameter name."""
    return Condition(tuple(inspect.signature(predicate).parameters), predicate)


def _parameters(
    function: Callable[..., Any], label: str, inputs: Sequence[str] | None, space: Mapping[str, Space]
) -> tuple[tuple[str, ...], dict[str, Any], dict[str, Any], bool]:
    required: list[str] = list(inputs or ())
    optional: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    takes_seed = False
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        raise SystemDefinitionError(
            f"component {label!r} has no readable signature.", remedy="Wrap it in a function with named parameters."
        ) from None
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise SystemDefinitionError(
                f"parameter {parameter.name!r} of component {label!r} cannot be passed by name.",
                remedy="Wrap it in a function with named parameters.",
            )
        has_default = parameter.default is not parameter.empty
        if parameter.name in space:
            if not has_default:
                raise SystemDefinitionError(
                    f"knob {parameter.name!r} of component {label!r} has no default.",
                    remedy="The default is the starting configuration: write one in the signature.",
                )
            defaults[parameter.name] = parameter.default
        elif parameter.name == "seed":
            takes_seed = True
        elif inputs is None and has_default:
            optional[parameter.name] = parameter.default
        elif inputs is None:
            required.append(parameter.name)
    unknown = sorted(set(space) - set(defaults))
    if unknown:
        raise SystemDefinitionError(
            f"component {label!r} has a space for {unknown[0]!r}, which is no parameter of it.",
            remedy="Name a parameter.",
        )
    return tuple(required), optional, defaults, takes_seed


def _named_outputs(result: Any, names: tuple[str, ...], label: str) -> dict[str, Any]:
    if isinstance(result, Mapping) and all(name in result for name in names):
        return {name: result[name] for name in names}
    record = isinstance(result, tuple) and hasattr(result, "_fields")  # a named tuple
    plain = (isinstance(result, str | int | float | bool | list | tuple) and not record) or result is None
    if not plain and all(hasattr(result, name) for name in names):
        return {name: getattr(result, name) for name in names}
    if len(names) == 1:
        return {names[0]: result}
    raise SystemDefinitionError(
        f"component {label!r} returned {type(result).__name__} instead of its outputs {list(names)}.",
        remedy="Return a mapping with those keys.",
    )


def _called(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    try:
        return function(**arguments)
    except StopIteration as error:
        # asyncio cannot hand this one from a thread to the loop before Python 3.12: whoever awaits it would wait for ever.
        raise RuntimeError("the component let a StopIteration escape: give next() a default") from error
