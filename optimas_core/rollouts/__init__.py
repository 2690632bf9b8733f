"""Rollouts: executing a system over examples, with order, cache, budget and ledger."""

from optimas_core.rollouts._budget import Budget
from optimas_core.rollouts._cache import CallCache
from optimas_core.rollouts._engine import LocalScorer, Rollout, RolloutEngine, Status, Task, first_error, ordered
from optimas_core.rollouts._ledger import LedgerRow, Place, Spend
from optimas_core.rollouts._threads import in_short_thread

__all__ = [
    "Budget",
    "CallCache",
    "LedgerRow",
    "LocalScorer",
    "Place",
    "Rollout",
    "RolloutEngine",
    "Spend",
    "Status",
    "Task",
    "first_error",
    "in_short_thread",
    "ordered",
]
