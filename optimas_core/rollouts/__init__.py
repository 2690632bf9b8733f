"""Rollouts: executing a system over examples, with order, cache, budget and ledger."""

from optimas_core.rollouts._budget import Budget, Place, Spend
from optimas_core.rollouts._cache import CallCache
from optimas_core.rollouts._engine import LocalScorer, Rollout, RolloutEngine, Status, Task, first_error, ordered

__all__ = [
    "Budget",
    "CallCache",
    "LocalScorer",
    "Place",
    "Rollout",
    "RolloutEngine",
    "Spend",
    "Status",
    "Task",
    "first_error",
    "ordered",
]
