"""Racing candidates on measured rollouts: what the local step does where no reward function may steer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from optimas_core.rollouts import Task
from optimas_core.stages._context import StageContext
from optimas_core.system import Configuration

_ROUND = 10


async def race(
    context: StageContext,
    *,
    component: str,
    configuration: Configuration,
    changes: Sequence[Mapping[str, Any]],
    measured: Sequence[dict[str, float]],
    examples: Sequence[str],
    iteration: int,
) -> int:
    """Successive halving over rounds of search inputs. Candidate 0 is the incumbent and never leaves the race.

    `measured` (example id -> reward, one mapping per candidate) is what is known already; rounds add to it. A candidate is
    compared with the incumbent on the examples both were measured on, so one that often fails harms only itself.

    Returns:
        Index of the candidate with the largest mean gain over the incumbent; 0 where none beats it.
    """
    alive = list(range(len(changes)))
    fresh = [name for name in examples if any(name not in measured[index] for index in alive)]
    tried = False
    while len(alive) > 1 and fresh:
        alive = _keep_half(measured, alive, tried=tried)
        batch, fresh = fresh[:_ROUND], fresh[_ROUND:]
        wanted = [(index, row) for index in alive for row in context.examples(batch) if row.id not in measured[index]]
        tasks = [Task(row, configuration.replace(component, changes[index]), repeat=0) for index, row in wanted]
        rollouts = await context.engine.run(
            tasks, stage="local-optimize", iteration=iteration, on_done=context.tell(f"{component}: racing {len(alive)} candidates")
        )
        tried = True
        for (index, _), rollout in zip(wanted, rollouts, strict=True):
            if rollout.reward is not None:
                measured[index][rollout.example_id] = rollout.reward
        if len(alive) == 2 and len(measured[alive[1]]) >= 2 * _ROUND:
            break
    gains = _gains(measured, alive)
    best = max(alive, key=lambda index: (gains[index], -index))
    return best if gains[best] > 0 else 0


def _keep_half(measured: Sequence[Mapping[str, float]], alive: Sequence[int], *, tried: bool) -> list[int]:
    """The incumbent and the better half of the challengers; all of them as long as nothing is known of any."""
    gains = _gains(measured, alive)
    challengers = sorted((index for index in alive if index and gains[index] > -math.inf), key=lambda index: (-gains[index], index))
    if not challengers and not tried:
        return list(alive)
    return [0, *challengers[: (len(challengers) + 1) // 2]]


def _gains(measured: Sequence[Mapping[str, float]], indices: Sequence[int]) -> dict[int, float]:
    """Mean difference to the incumbent on examples both were measured on; minus infinity where these are none, or fewer than
    half of what another candidate has: a lucky few must not win."""
    shared = {index: sorted(measured[index].keys() & measured[0].keys()) for index in indices}
    most = max((len(names) for index, names in shared.items() if index), default=0)
    return {
        index: math.fsum(measured[index][name] - measured[0][name] for name in names) / len(names)
        if names and 2 * len(names) >= most
        else (-math.inf if index else 0.0)
        for index, names in shared.items()
    }
