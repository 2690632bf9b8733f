"""x_k of one component on many examples: the system run up to it under the current configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optimas_core.preferences import frozen_input
from optimas_core.rollouts import Task
from optimas_core.stages._context import StageContext
from optimas_core.system import Configuration


async def frozen_inputs(
    context: StageContext, component: str, examples: Sequence[str], configuration: Configuration, *, stage: str, iteration: int
) -> dict[str, Mapping[str, Any]]:
    """example id -> x_k, in the order of `examples`; examples on which C_k does not run are left out."""
    rows = context.examples(examples)
    tasks = [Task(example, configuration, until=component) for example in rows]
    rollouts = await context.engine.run(tasks, stage=stage, iteration=iteration, on_done=context.tell(f"{component}: running upstream"))
    found = {}
    for example, rollout in zip(rows, rollouts, strict=True):
        frozen = frozen_input(context.engine, component, example, rollout)
        if frozen is not None:
            found[example.id] = frozen[0]
    return found
