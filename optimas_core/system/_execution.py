"""Executes the graph for one example. Who calls a component's body (directly, or through cache and budget) is the caller's choice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from optimas_core.system._component import Component
from optimas_core.system._trajectory import Step, Trajectory

if TYPE_CHECKING:
    from optimas_core.system._compound import CompoundSystem

Invoke = Callable[[Component, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


async def execute(
    system: CompoundSystem,
    fields: Mapping[str, Any],
    invoke: Invoke,
    *,
    given: Mapping[str, Mapping[str, Any]] | None = None,
    until: str | None = None,
) -> Trajectory:
    """y_k = C_k(x_k; v_k) for every component in topological order (paper, section 3); independent components run concurrently.

    Args:
        fields: the example's fields; the system's inputs are among them.
        invoke: runs one component on its inputs.
        given: component name to outputs that are fixed: it does not run (partial re-execution).
        until: stop before this component: only what it depends on runs.

    Raises:
        Whatever `invoke` raises first in topological order; components that do not depend on the failed one still finish.
    """
    fixed = given or {}
    wanted = system.upstream(until) if until else frozenset(system.components)
    tasks: dict[str, asyncio.Task[Step]] = {}

    async def run(item: Component) -> Step:
        known = dict(fields)
        for name in item.reads:
            writer = system.writer(name)
            if writer:
                step = await tasks[writer]
                known.pop(name, None)
                if name in step.outputs:
                    known[name] = step.outputs[name]
        inputs = {name: known[name] for name in item.inputs if name in known}
        inputs |= {name: known.get(name, default) for name, default in item.optional_inputs.items()}
        if item.name in fixed:
            return Step(item.name, inputs, dict(fixed[item.name]), "given")
        if not _applies(item, known, inputs):
            return Step(item.name, inputs, dict(item.otherwise), "skipped")
        return Step(item.name, inputs, dict(await invoke(item, inputs)), "ran")

    for name, item in system.components.items():
        if name in wanted:
            tasks[name] = asyncio.create_task(run(item))
    try:
        await asyncio.gather(*tasks.values(), return_exceptions=True)
    finally:
        for task in tasks.values():
            task.cancel()
    steps = {name: task.result() for name, task in tasks.items()}
    written = {key: value for step in steps.values() for key, value in step.outputs.items()}
    return Trajectory(steps, {**{name: fields[name] for name in system.inputs if name in fields}, **written})


def _applies(item: Component, known: Mapping[str, Any], inputs: Mapping[str, Any]) -> bool:
    if any(name not in inputs for name in item.inputs):
        return False  # a required input was never written: its writer was skipped
    if item.when is None:
        return True
    if any(name not in known for name in item.when.fields):
        return False
    return bool(item.when.holds(**{name: known[name] for name in item.when.fields}))
