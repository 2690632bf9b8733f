"""The compound system G = (C, E): components, their order, a metric; callable on its own."""

from __future__ import annotations

import asyncio
import copy
import inspect
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optimas_core.canonical import digest
from optimas_core.errors import ConfigurationError, MetricError, SystemDefinitionError
from optimas_core.system._component import CallContext, Component
from optimas_core.system._configuration import Configuration
from optimas_core.system._execution import execute
from optimas_core.system._identity import code_identity
from optimas_core.system._trajectory import Trajectory
from optimas_core.system._typing import plainly_different

Metric = Callable[[Mapping[str, Any], Mapping[str, Any]], float]


class CompoundSystem:
    """A directed acyclic graph of components and the global reward R(x, y).

    Fields that no component writes are the system's inputs. Immutable after construction; configurations are values that are
    passed along, so concurrent calls never see each other's.

    Args:
        components: in any order; the topological order breaks ties by this order, whatever the hash seed.
        outputs: the final fields; each may come from any component.
        metric: `metric(example, outputs) -> float`; `example` holds every column of the data, higher is better.
        metric_range: lowest and highest value the metric can take.
        name: used for the promoted configuration and in reports.

    Raises:
        SystemDefinitionError: a cycle, two writers of one field, an output nobody writes, fields of different types.

    Example:
        >>> system = CompoundSystem([rewriter, retriever, answerer], outputs=["answer"], metric=f1)
        >>> system(question="Which river flows through Cologne?")
        {'answer': 'Rhine'}
    """

    def __init__(
        self,
        components: Sequence[Component],
        *,
        outputs: Sequence[str],
        metric: Metric,
        metric_range: tuple[float, float] = (0.0, 1.0),
        name: str = "system",
    ) -> None:
        self.name = name
        self.outputs = tuple(outputs)
        self.metric = metric
        self.metric_range = metric_range
        writers = _writers(components)
        self.inputs = tuple(
            dict.fromkeys(
                field for item in components for field in (*item.inputs, *(item.when.fields if item.when else ())) if field not in writers
            )
        )
        self.components: dict[str, Component] = {item.name: item for item in _topological(components, writers)}
        self._writers = writers
        self._start: Mapping[str, Mapping[str, Any]] = {}
        self._check(writers)

    @property
    def optimizable(self) -> tuple[str, ...]:
        """Names of the components with a non-empty space V_k, in topological order."""
        return tuple(name for name, item in self.components.items() if item.optimizable)

    @property
    def configuration(self) -> Configuration:
        """The starting configuration v_0: every knob at its default, or as `starting_from` was told."""
        return Configuration(
            {name: {**item.defaults, **self._start.get(name, {})} for name, item in self.components.items() if item.defaults}
        )

    def starting_from(self, configuration: Configuration) -> CompoundSystem:
        """A copy of the system whose starting configuration v_0 is this one; a knob that it does not name keeps its default.

        Raises:
            ConfigurationError: it names something that the system does not have, or a value outside its space.
        """
        self.check_configuration(configuration)
        started = copy.copy(self)
        started._start = configuration.to_json()
        return started

    def writer(self, field: str) -> str | None:
        """Name of the component that writes `field`; None for a system input."""
        return self._writers.get(field)

    def upstream(self, component: str) -> frozenset[str]:
        """Components whose outputs can reach `component`."""
        found: set[str] = set()
        waiting = [component]
        while waiting:
            for field in self.components[waiting.pop()].reads:
                writer = self._writers.get(field)
                if writer and writer not in found:
                    found.add(writer)
                    waiting.append(writer)
        return frozenset(found)

    def downstream(self, component: str) -> frozenset[str]:
        """Components that directly or indirectly receive what `component` writes."""
        return frozenset(name for name in self.components if component in self.upstream(name))

    def check_configuration(self, configuration: Configuration) -> None:
        """Every component and knob is known and inside its space.

        Raises:
            ConfigurationError: names the component, the knob and the value.
        """
        for name, knobs in configuration.knobs.items():
            if name not in self.components:
                raise ConfigurationError(
                    f"the configuration names component {name!r}, which the system lacks.",
                    remedy=f"It has {list(self.components)}.",
                )
            self.components[name].check(knobs)

    @property
    def fingerprint(self) -> str:
        """Digest of structure and code: names, edges, conditions, spaces, component fingerprints, metric."""
        return digest(
            [
                [
                    [
                        item.name,
                        list(item.reads),
                        list(item.outputs),
                        item.fingerprint,
                        {knob: space.to_json() for knob, space in item.space.items()},
                        item.optional_inputs,
                        item.otherwise,
                        code_identity(item.when.holds) if item.when else "",
                    ]
                    for item in self.components.values()
                ],
                list(self.outputs),
                list(self.metric_range),
                code_identity(self.metric),
            ]
        )

    def score(self, example: Mapping[str, Any], outputs: Mapping[str, Any]) -> float:
        """R(x, y) of one example.

        Raises:
            MetricError: the metric raises, or returns NaN, infinity, something that is no number, or one outside metric_range.
        """
        try:
            value: Any = self.metric(example, outputs)
        except Exception as error:
            raise MetricError(
                f"the metric raised {type(error).__name__}: {error}.",
                remedy="It must return a float for every example and output.",
            ) from error
        if getattr(value, "shape", None) == ():  # a scalar of an array library
            value = value.item()
        if isinstance(value, bool):
            value = float(value)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise MetricError(f"the metric returned {value!r}.", remedy="It must return a finite float for every example.")
        low, high = self.metric_range
        if not low - 1e-9 <= value <= high + 1e-9:
            raise MetricError(
                f"the metric returned {value!r}, outside metric_range {self.metric_range}.",
                remedy="Give CompoundSystem the metric_range that the metric can take.",
            )
        return float(value)

    def __call__(self, *, configuration: Configuration | None = None, seed: int = 0, **fields: Any) -> dict[str, Any]:
        """Run once, without Optimas: no cache, no budget. Works inside a running event loop too."""
        trajectory: Trajectory = _run_anywhere(self.trace(configuration=configuration, seed=seed, **fields))
        return trajectory.outputs(self.outputs)

    async def acall(self, *, configuration: Configuration | None = None, seed: int = 0, **fields: Any) -> dict[str, Any]:
        """As calling the system, from asynchronous code."""
        return (await self.trace(configuration=configuration, seed=seed, **fields)).outputs(self.outputs)

    async def trace(self, *, configuration: Configuration | None = None, seed: int = 0, **fields: Any) -> Trajectory:
        """As `acall`, but returns every step."""
        chosen = self.configuration if configuration is None else configuration
        self.check_configuration(chosen)
        missing = [name for name in self.inputs if name not in fields]
        if missing:
            raise ConfigurationError(f"the system needs the input {missing[0]!r}.", remedy=f"Its inputs are {list(self.inputs)}.")

        async def invoke(item: Component, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
            knobs = {**item.defaults, **chosen.of(item.name)}
            for name, value in knobs.items():
                if isinstance(value, Mapping) and "per_input" in value:
                    raise ConfigurationError(
                        f"{item.name}.{name} is chosen per input, which needs its Local Reward Function.",
                        remedy="Run it through Optimas.",
                    )
            return await item.body(inputs, knobs, CallContext(seed))

        return await execute(self, fields, invoke)

    def _check(self, writers: Mapping[str, str]) -> None:
        if not self.components:
            raise SystemDefinitionError("the system has no components.", remedy="Give at least one.")
        low, high = self.metric_range
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise SystemDefinitionError(f"metric_range is {self.metric_range}.", remedy="Give (lowest, highest).")
        try:
            inspect.signature(self.metric).bind({}, {})
        except TypeError:
            raise SystemDefinitionError(
                "the metric cannot be called with two arguments.", remedy="Write metric(example, outputs) -> float."
            ) from None
        for output in self.outputs:
            if output not in writers:
                raise SystemDefinitionError(
                    f"no component writes the final field {output!r}.", remedy=f"Fields written: {sorted(writers)}."
                )
        for item in self.components.values():
            for name in (*item.inputs, *item.optional_inputs):
                writer = writers.get(name)
                produced = self.components[writer].types.get(name) if writer else None
                consumed = item.types.get(name)
                if produced is not None and consumed is not None and plainly_different(produced, consumed):
                    raise SystemDefinitionError(
                        f"{writer!r} writes {name!r} as {produced} and {item.name!r} reads it as {consumed}.",
                        remedy="Make the annotations agree.",
                    )
            item.check(item.defaults)

    def __repr__(self) -> str:
        return f"CompoundSystem({self.name!r}: {' -> '.join(self.components)})"


def _writers(components: Sequence[Component]) -> dict[str, str]:
    writers: dict[str, str] = {}
    names: set[str] = set()
    for item in components:
        if item.name in names:
            raise SystemDefinitionError(f"two components are named {item.name!r}.", remedy="Give each its own name.")
        names.add(item.name)
        for field in item.outputs:
            if field in writers:
                raise SystemDefinitionError(
                    f"field {field!r} has two writers, {writers[field]!r} and {item.name!r}.",
                    remedy="Rename one of them.",
                )
            writers[field] = item.name
    return writers


def _topological(components: Sequence[Component], writers: Mapping[str, str]) -> list[Component]:
    """Kahn's algorithm; among the components that are ready the first listed comes first, so no hash decides."""
    waiting = list(components)
    done: set[str] = set()
    ordered: list[Component] = []
    while waiting:
        ready = next(
            (item for item in waiting if all(writers.get(field) is None or writers[field] in done for field in item.reads)),
            None,
        )
        if ready is None:
            names = " -> ".join(item.name for item in waiting)
            raise SystemDefinitionError(f"the components {names} form a cycle.", remedy="Remove one of the edges between them.")
        waiting.remove(ready)
        done.add(ready.name)
        ordered.append(ready)
    return ordered


def _run_anywhere(coroutine: Any) -> Any:
    """asyncio.run, or a thread with a loop of its own where this thread already runs one (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    result: list[Any] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            result.append(asyncio.run(coroutine))
        except BaseException as error:  # handed to the caller's thread below
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]
