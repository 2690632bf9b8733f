"""One execution of the system: what is asked for, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from optimas_core.system import Configuration, Example, Trajectory

Status = Literal["ok", "missing", "format_error"]


@dataclass(frozen=True, slots=True)
class Task:
    """One execution of the system: an example under a configuration.

    `repeat` tells Monte Carlo repeats apart; `given` fixes outputs of components, which then do not run;
    `until` runs only what that component depends on. `resample`: only what depends on that component is repeated, all else
    stays at its first execution.
    """

    example: Example
    configuration: Configuration
    repeat: int = 0
    given: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    until: str | None = None
    resample: str | None = None


@dataclass(frozen=True, slots=True)
class Rollout:
    """What came of a task. `reward` is None unless status is ok or format_error (then the metric's lowest value).

    `system_runs` is the fraction of components executed for it, those the cache served not counted (paper, Table 3).
    """

    example_id: str
    status: Status
    reward: float | None
    trajectory: Trajectory | None
    system_runs: float
    tokens_in: int
    tokens_out: int
    usd: float | None
    error: str = ""


def first_error(rollouts: Sequence[Rollout]) -> str:
    """The first error text among missing rollouts, for a message."""
    return next((item.error for item in rollouts if item.status == "missing"), "")
