"""Racing candidates on measured rollouts: what the local step does where no reward function may steer."""

from __future__ import annotations

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

    `measured` (example id -> reward, one mapping per candidate) is what is known already; rounds add to it. Candidates are
    compared on the examples all of them were measured on.

    Returns:
        Index of the candidate with the highest mean on common examples; 0 where none beats the incumbent.
    """
    alive = [0, *_ranked(measured, list(range(len(changes))))]
    alive = [index for position, index in enumerate(alive) if index not in alive[:position]]
    fresh = [name for name in examples if all(name not in measured[index] for index in alive)]
    while len(alive) > 1 and fresh:
        alive = _keep_half(measured, alive)
        batch, fresh = fresh[:_ROUND], fresh[_ROUND:]
        rows = context.examples(batch)
        tasks = [
            Task(example, configuration.replace(component, changes[index]), repeat=0) for index in alive for example in rows
        ]
        rollouts = await context.engine.run(
            tasks, stage="local-optimize", iteration=iteration, on_done=context.tell(f"{component}: racing {len(alive)} candidates")
        )
        for position, rollout in enumerate(rollouts):
            if rollout.reward is not None:
                measured[alive[position // len(rows)]][rollout.example_id] = rollout.reward
        if len(alive) == 2 and len(measured[alive[1]]) >= 2 * _ROUND:
            break
    means = _common_means(measured, alive)
    best = max(alive, key=lambda index: (means[index], -index))
    return best if means[best] > means[0] else 0


def _keep_half(measured: Sequence[Mapping[str, float]], alive: Sequence[int]) -> list[int]:
    """The incumbent and the better half of the challengers."""
    challengers = [index for index in _ranked(measured, alive) if index != 0]
    return [0, *challengers[: max(1, (len(challengers) + 1) // 2)]]


def _ranked(measured: Sequence[Mapping[str, float]], indices: Sequence[int]) -> list[int]:
    means = _common_means(measured, indices)
    return sorted(indices, key=lambda index: (-means[index], index))


def _common_means(measured: Sequence[Mapping[str, float]], indices: Sequence[int]) -> dict[int, float]:
    """Means over the examples that every listed candidate was measured on; minus infinity for all where there are none."""
    common = set.intersection(*(set(measured[index]) for index in indices)) if indices else set()
    if not common:
        return {index: float("-inf") for index in indices}
    return {index: sum(measured[index][name] for name in sorted(common)) / len(common) for index in indices}
