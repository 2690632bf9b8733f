"""Rollouts: executing a system over examples, with order, cache, budget and ledger."""

from optimas_core.rollouts._budget import Budget
from optimas_core.rollouts._cache import CallCache
from optimas_core.rollouts._engine import LocalScorer, RolloutEngine
from optimas_core.rollouts._ledger import LedgerRow, Place, Spend
from optimas_core.rollouts._ordered import ordered
from optimas_core.rollouts._rollout import Rollout, Status, Task, first_error
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
